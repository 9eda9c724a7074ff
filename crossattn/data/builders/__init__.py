"""Sets of real data, built from packages that people can install: the command build_data."""
