"""Implementations of the operation, one a file; what they share works on blocks."""
