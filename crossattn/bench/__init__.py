"""Benchmarks: time, memory and error of cross-attention beside other libraries.

`options` (with `shared_options`) says what to measure, `benchmarks/` has one file for each kind,
`timing` takes the times in a process of its own (`worker`), `summary` and `figure` show them.
"""
