"""Benchmark `attention` by the clock: many shapes within a few minutes of an accelerator.

`cases` says what is measured and `contestants` (with `torch_backends`) by whom; `compiling` makes
all programs in threads first, `worker` then times them one after the other in a process of its own;
`run` starts that process and keeps the time, `verdicts` holds the results against what is wanted.
"""
