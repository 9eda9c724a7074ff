"""The suites: values only, one short file each."""
