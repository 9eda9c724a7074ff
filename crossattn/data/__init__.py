"""Sources of data: `sources` finds them, `examples` and `dataset` say what each of them loads."""
