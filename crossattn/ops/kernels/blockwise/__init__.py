"""Blocks of queries and keys: which are visited, how they are read, multiplied and written."""
