"""What a term of a mask is asked about: chosen queries and keys, or a call cut into blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = [
    "Argument",
    "Cut",
    "Pair",
    "Part",
    "Span",
    "clip_to",
    "grow",
    "pairs",
    "split_keys",
    "starts",
    "term",
    "total",
    "wide",
]


# (argument as written, value, its axes as letters); "|1" axes of a dense mask may be 1.
Argument = tuple[str, Any, str]
Pair = tuple[Any, Any]


@dataclass_transform(frozen_default=True)
def term(cls: type) -> type:
    """A dataclass that is a pytree; fields with metadata are static."""
    node = dataclasses.dataclass(frozen=True)(cls)
    fields = dataclasses.fields(node)
    jax.tree_util.register_dataclass(
        node,
        data_fields=[field.name for field in fields if not field.metadata],
        meta_fields=[field.name for field in fields if field.metadata],
    )
    return node


class Span(NamedTuple):
    """`size` neighbours from `start`, which may be traced; all of them must exist.

    XLA reads a span as a slice and chosen positions as a gather: with the latter, a dense mask in
    chunks of 512 keys cost 2.5 times as much on a CPU. (Other masks cost the same either way.)
    """

    start: Any
    size: int


@dataclasses.dataclass(frozen=True)
class Part:
    """The queries or keys asked for: all `n`, a `Span`, or those at `chosen`, (R,) or (B|1, R)."""

    n: int
    chosen: Any = None

    @property
    def positions(self) -> Array:
        """int32 (B|1, R)."""
        if self.chosen is None:
            return jnp.arange(self.n, dtype=jnp.int32)[None]
        if isinstance(self.chosen, Span):
            start = jnp.asarray(self.chosen.start).astype(jnp.int32)
            return (start + jnp.arange(self.chosen.size, dtype=jnp.int32))[None]
        return self.chosen.astype(jnp.int32).reshape(-1, self.chosen.shape[-1])

    def take(self, x: Array, axis: int = 1) -> Array:
        """x (B|1, ..., n, ...) at the positions; an axis of size 1 stays."""
        if self.chosen is None or x.shape[axis] == 1:
            return x
        if isinstance(self.chosen, Span):
            return jax.lax.dynamic_slice_in_dim(x, *self.chosen, axis)
        at = self.positions
        if at.shape[0] == 1:
            return jnp.take(x, at[0], axis=axis, mode="clip")
        one = lambda a, r: jnp.take(a, r, axis=axis - 1, mode="clip")
        return jax.vmap(one, (None, 0))(x[0], at) if x.shape[0] == 1 else jax.vmap(one)(x, at)


@dataclasses.dataclass(frozen=True)
class Cut:
    """`n` queries or keys cut into blocks; the last may be ragged."""

    n: int
    block: int

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return -(-self.n // self.block)

    @property
    def first(self) -> np.ndarray | Array:
        """Position of each block's first entry, int32 (count,)."""
        return self._numbers.arange(self.count, dtype=np.int32) * np.int32(self.block)

    @property
    def last(self) -> np.ndarray | Array:
        """Position of each block's last entry, int32 (count,)."""
        end = self._numbers.asarray(self.n, dtype=np.int32)
        return self._numbers.minimum(self.first + np.int32(self.block), end) - np.int32(1)

    @property
    def whole(self) -> np.ndarray | Array:
        """Whether a block has all of its entries, booleans (count,)."""
        return self.first + self.block <= self._numbers.asarray(self.n, dtype=np.int32)

    @property
    def _numbers(self) -> Any:
        """Where positions are made: here, or in the program where `n` is not known."""
        return np if all_known(self.n) else jnp

    def fold(self, reduce: Callable[..., Array], x: Array, axis: int = 1) -> Array:
        """x (..., n, ...) to (..., count, ...), each block reduced; an axis of size 1 stays."""
        if x.shape[axis] == 1:
            return x
        x = grow(x, axis, self.count * self.block)
        x = x.reshape(*x.shape[:axis], self.count, self.block, *x.shape[axis + 1 :])
        return reduce(x, axis=axis + 1)


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
