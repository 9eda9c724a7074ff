"""What a term of a mask is asked about: chosen queries and keys, or a call cut into blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.masks.arrays import grow
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = ["Argument", "Cut", "Pair", "Part", "Span", "term"]


# (argument as written, value, its axes as letters); "|1" axes of a dense mask may be 1.
Argument = tuple[str, Any, str]
Pair = tuple[Any, Any]


@dataclass_transform(frozen_default=True)
def term(cls: type) -> type:
    """A dataclass that is a pytree; fields with metadata are static."""
    node: Any = dataclasses.dataclass(frozen=True)(cls)
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
