"""Visible keys at the front: attention does not care in which order keys stand.

What is left of a mask of keys is then a length. Both ways are one read of a row for each that is
written, in a fixed order: nothing is added up, so that results are equal from call to call.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.varying import varying_like
from crossattn.shapes import Array

__all__ = ["KeysInFront", "nth_true", "take_tokens"]


class KeysInFront(NamedTuple):
    """Where keys go, and come from.

    >>> front = KeysInFront.of(jnp.array([[False, True, True]]))
    >>> front.places.tolist(), front.ranks.tolist(), front.counts.tolist()
    ([[1, 2, 3]], [[3, 0, 1]], [2])
    """

    places: Array  # int32 (B, S): which key stands there now; S behind the last
    ranks: Array  # int32 (B, S): where a key stands now; S where it is hidden
    counts: Array  # int32 (B,): how many there are

    @classmethod
    def of(cls, seen: Array) -> KeysInFront:
        """Of booleans (B, S); visible keys keep their order."""
        S = seen.shape[1]
        upto = jnp.cumsum(seen, 1, dtype=jnp.int32)
        return cls(nth_true(seen, S), jnp.where(seen, upto - 1, S), upto[:, -1])

    def forth(self, x: Array) -> Array:
        """(B, S, ...) to the visible keys, then zeros."""
        return take_tokens(x, self.places)

    def back(self, x: Array) -> Array:
        """What belongs to the keys in front, (B, S, ...), where they were; 0 for hidden ones."""
        return take_tokens(x, self.ranks)


def nth_true(flags: Array, n: int) -> Array:
    """Position of the first, second, ..., n-th True of each row (B, N); N where there are fewer.

    >>> nth_true(jnp.array([[False, True, False, True]]), 3).tolist()
    [[1, 3, 4]]
    """
    wanted = varying_like(jnp.arange(1, n + 1, dtype=jnp.int32), flags)
    find = lambda upto: jnp.searchsorted(upto, wanted, method="scan_unrolled").astype(jnp.int32)
    return jax.vmap(find)(jnp.cumsum(flags, 1, dtype=jnp.int32))


def take_tokens(x: Array, places: Array) -> Array:
    """x (B, N, ...) at places (B, M): (B, M, ...), with zeros where the place is N or beyond."""
    take = lambda row, at: jnp.take(row, at, axis=0, mode="fill", fill_value=0)
    return jax.vmap(take)(x, places)
