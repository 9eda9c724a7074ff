"""Benchmarks: time, memory and error of cross-attention beside other libraries.

`options` (with `shared_options`) say what to measure, `benchmarks/` one file for each kind of them, `timing` takes the
times in a process of its own (`worker`), `summary` and `figure` show them.
"""
