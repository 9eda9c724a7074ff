"""Tables of strings, from results.json."""
