"""Which query sees which key, and what kernels are told of it."""
