"""Reading results.json: runs, settings, counts, and what is missing."""
