"""Arrays of ids, lengths and positions, of any integer dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = ["clip_to", "grow", "pairs", "split_keys", "starts", "total", "wide"]


def pairs(compare: Callable[[Array, Array], Array], query: Array, key: Array) -> Array:
    """(B|1, R) and (B|1, C) to (B|1, R, C)."""
    return compare(query[:, :, None], key[:, None, :])


def wide(*arrays: Any) -> Any:
    """int64 where one of them has 64 bits, else int32."""
    return jnp.int64 if max(jnp.asarray(x).dtype.itemsize for x in arrays) == 8 else jnp.int32


def clip_to(x: Any, low: int, high: int, dtype: Any = jnp.int32) -> Array:
    """Integers of any dtype cut to [low, high] and cast: what is cut first does not wrap around."""
    x = jnp.asarray(x)
    if not all_known(low, high):
        x = x if x.dtype.itemsize >= 4 else x.astype(jnp.int32)
        return jnp.clip(x, *(jnp.asarray(n).astype(x.dtype) for n in (low, high))).astype(dtype)
    info = jnp.iinfo(x.dtype)
    return jnp.clip(x, max(low, int(info.min)), min(high, int(info.max))).astype(dtype)


def total(x: Any, y: Any, sign: int) -> Array:
    """x + sign * y of integers () or (B,), shape (1,) or (B,); the end of the range, not beyond."""
    dtype = wide(x, y)
    top = int(jnp.iinfo(dtype).max)
    x, y = (clip_to(a, -top, top, dtype).reshape(-1) for a in (x, y))
    y = y * sign
    out = x + y
    wrapped = ((x < 0) == (y < 0)) & ((out < 0) != (x < 0))
    return jnp.where(wrapped, jnp.where(x < 0, -top, top), out)


def grow(x: Array, axis: int, n: int) -> Array:
    """x grown to `n` entries on an axis by its last one, which keeps every block's extremes."""
    pads = [(0, n - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    if not any(high for _, high in pads):
        return x
    return jnp.pad(x, pads, mode="edge" if x.shape[axis] else "constant")


def starts(B: int, S: int, parts: int) -> np.ndarray:
    """Position of the first key of each row of a call that was split, int32 (B * parts,)."""
    return np.tile(np.arange(parts, dtype=np.int32) * np.int32(S // parts), B)


def split_keys(x: Array, parts: int) -> Array:
    """(B, S) to (B * parts, S / parts)."""
    B, S = x.shape
    return x.reshape(B * parts, S // parts)
