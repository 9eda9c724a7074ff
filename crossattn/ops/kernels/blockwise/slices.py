"""Parts of arrays at places known when the program runs: slices, rows gathered and scattered.

Of bfloat16 the integers in which it is stored are read and written: XLA's CPU compiler slices no
bfloat16, and would keep a float32 copy of the whole array beside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = ["gather_rows", "put_slice", "repeat", "scatter_rows", "slice_of"]


def slice_of(x: Array, start: tuple[Any, ...], sizes: tuple[int, ...]) -> Array:
    """The part of x of these sizes from `start`."""
    return _as(jax.lax.dynamic_slice(_bits(x), _indices(start), sizes), x.dtype)


def put_slice(x: Array, part: Array, start: tuple[Any, ...]) -> Array:
    """x with `part` at `start`."""
    return _as(jax.lax.dynamic_update_slice(_bits(x), _bits(part), _indices(start)), x.dtype)


def gather_rows(x: Array, start: tuple[Any, ...], sizes: tuple[int, ...], at: Array) -> Array:
    """As `slice_of`, but on axis 1 those `at` (sizes[0]|1, sizes[1]); the last one for any beyond.

    All but the first three axes are whole.
    """
    lies = jax.lax.GatherDimensionNumbers((2, 3), (0, 1), (0, 1, 2))
    where = _where(start, sizes, at)
    one = (1, 1, *sizes[2:])
    return _as(jax.lax.gather(_bits(x), where, lies, one, mode="clip"), x.dtype)


def scatter_rows(x: Array, part: Array, start: tuple[Any, ...], at: Array) -> Array:
    """x with `part` where `gather_rows` reads, each place once; none beyond axis 1."""
    lies = jax.lax.ScatterDimensionNumbers((2, 3), (0, 1), (0, 1, 2))
    where = _where(start, part.shape, at)
    return _as(jax.lax.scatter(_bits(x), where, _bits(part), lies, mode="drop"), x.dtype)


def _where(start: tuple[Any, ...], sizes: tuple[int, ...], at: Array) -> Array:
    """Example, row and first head of each row that is read, int32 (sizes[0], sizes[1], 3)."""
    example, _, head, *_ = _indices(start)
    examples = example + jnp.arange(sizes[0], dtype=jnp.int32)[:, None]
    parts = (jnp.broadcast_to(n, sizes[:2]) for n in (examples, at, head))
    return jnp.stack(list(parts), axis=-1)


def repeat(n: int, body: Callable[[Any, Any], Any], carry: Any) -> Any:
    """`fori_loop` without a loop where one trip or none is made."""
    if all_known(n) and n <= 1:
        return body(0, carry) if n else carry
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32(n), body, carry)


def _indices(start: tuple[Any, ...]) -> list[Array]:
    return [jnp.asarray(n, jnp.int32) for n in start]


def _bits(x: Array) -> Array:
    return _as(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def _as(x: Array, dtype: Any) -> Array:
    return x if x.dtype == dtype else jax.lax.bitcast_convert_type(x, dtype)
