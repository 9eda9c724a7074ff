"""What this machine can do at best, measured in the same run as what is compared with it."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

# (rows and columns of a product, bytes of a copy): large enough for the device, and for its caches.
SIZES = {"cpu": (512, 2**26), "gpu": (8192, 2**30), "tpu": (8192, 2**29)}
CALLS, ROUNDS = {"cpu": 3, "gpu": 20, "tpu": 20}, 5


class Ceilings(NamedTuple):
    """Operations a second of a square product, bytes a second of a copy (read and written)."""

    flops: float
    bytes: float
    product: str
    copy: str
    kind: str = ""  # of the device, as JAX names it

    def share(self, work: tuple[float, float], seconds: float) -> float:
        """The least time that the work takes here, over the time that it took.

        >>> Ceilings(2.0, 1.0, "", "").share((4.0, 1.0), 8.0)
        0.25
        """
        return max(work[0] / self.flops, work[1] / self.bytes) / seconds


@functools.lru_cache
def measured_ceilings(device: str, dtype: str) -> Ceilings:
    """Of the default device of jax, whose kind is "cpu", "gpu" or "tpu"; medians of some rounds."""
    (n, size), calls = SIZES[device], CALLS[device]
    kind = jax.devices(device)[0].device_kind
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.float32).astype(dtype)
    y = jnp.zeros(size // 4, jnp.int32)
    square = lambda _, z: (z @ x * jnp.asarray(n**-0.5, z.dtype)).astype(z.dtype)
    add = lambda _, z: z + 1
    # Both in loops whose every turn needs the one before.
    flops = calls * 2.0 * n**3 / _seconds(lambda z: jax.lax.fori_loop(0, calls, square, z), x)
    moved = calls * 2.0 * size / _seconds(lambda z: jax.lax.fori_loop(0, calls, add, z), y)
    return Ceilings(flops, moved, f"{n}^3 in {dtype}", f"{size // 2**20} MiB", kind)


def _seconds(function: Callable[[Any], Any], x: Any) -> float:
    program = jax.jit(function).lower(x).compile()
    times = []
    for _ in range(ROUNDS + 1):
        before = time.perf_counter()
        jax.block_until_ready(program(x))
        times.append(time.perf_counter() - before)
    return statistics.median(times[1:])
