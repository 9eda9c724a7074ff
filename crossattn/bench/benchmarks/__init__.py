"""One module for each benchmark: `prepare(case)` returns a function that builds a contestant."""
