"""Masks as comparisons of vectors: what a kernel needs that sees a block of queries and all keys.

Lengths, bands and `keys` leave each query one interval of keys, ids that match leave each key one
interval of ids. Offsets may be traced, and one for each example; nothing of T x S is kept.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from crossattn.ops.masks.arrays import clip_to
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.matching import Media, Segments
from crossattn.ops.masks.terms import Band, DensePairs, Lengths
from crossattn.shapes import Array

__all__ = ["Intervals", "intervals", "refuse_intervals"]


class Intervals(NamedTuple):
    """Query i of example b sees key j where `first <= j <= last` and each of its ids fits.

    rows, int32 (B|1, 2 + n, T): first, last, and n ids of each query.
    columns, int32 (B|1, S, 1 + 2 n): whether some query sees the key, and from which to which id.
    pairs, int8 (B|1, 1, T|1, S|1): what was written out, 1 = visible; None: nothing was.
    """

    rows: Array
    columns: Array
    pairs: Array | None


def refuse_intervals(mask: Mask) -> str | None:
    """Why a mask is not intervals; None if it is."""
    for term in mask.terms:
        if isinstance(term, DensePairs) and term.seen.shape[1] != 1:
            return "a dense mask of its own for each head"
        if isinstance(term, Segments | Media):
            for x in (term.query, term.key):
                if not np.can_cast(x.dtype, np.int32):
                    return f"{x.dtype} ids: write ids.astype(jnp.int32)"
    return None


def intervals(mask: Mask, B: int, T: int, S: int) -> Intervals | None:
    """A mask that `refuse_intervals` does not refuse; None where it hides nothing.

    >>> rows, columns, _ = intervals(Mask.causal(1) & Mask.lengths(key=jnp.array([2])), 1, 3, 4)
    >>> rows.tolist(), columns.tolist()
    ([[[0, 0, 0], [1, 1, 1]]], [[[1], [1], [0], [0]]])
    """
    if not mask.terms:
        return None
    i = jnp.arange(T, dtype=jnp.int32)[None]
    first, last = jnp.zeros((1, T), jnp.int32), jnp.full((1, T), S - 1, jnp.int32)
    ids: list[tuple[Array, Array, Array]] = []
    pairs: Array | None = None
    for term in mask.terms:
        if isinstance(term, Lengths):
            if term.key is not None:
                last = jnp.minimum(last, clip_to(term.key, 0, S)[:, None] - 1)
            if term.query is not None:
                last = jnp.where(i < clip_to(term.query, 0, T)[:, None], last, -1)
        elif isinstance(term, Band):
            low, high = term.limits(T, S)
            first = first if low is None else jnp.maximum(first, i + low[:, None])
            last = last if high is None else jnp.minimum(last, i + high[:, None])
        elif isinstance(term, DensePairs):
            pairs = term.seen if pairs is None else pairs & term.seen
        else:
            ids.append(_matched(term, T))
    seen = mask.visible(B, T, S).any(2)[:, 0].astype(jnp.int32)  # compared and reduced in one loop
    queries = [first, last, *(x for x, _, _ in ids)]
    keys = [jnp.broadcast_to(seen, (seen.shape[0], S)), *(x for _, *pair in ids for x in pair)]
    return Intervals(
        _stacked(queries, 1),
        _stacked(keys, 2),
        None if pairs is None else jnp.asarray(pairs).astype(jnp.int8),
    )


def _matched(term: Any, T: int) -> tuple[Array, Array, Array]:
    """An id of each query, and the first and the last id that sees each key."""
    if isinstance(term, Segments | Media):
        query, key = (x.astype(jnp.int32) for x in (term.query, term.key))
        if isinstance(term, Segments):
            return query, key, key
        top = np.iinfo(np.int32).max
        query = jnp.maximum(query, 0)
        # 0 (and less) is no image: no query has the id -1, and none lies between 1 and 0.
        low, high = (key, key) if term.latest_only else (key, jnp.full_like(key, top))
        return query, jnp.where(key > 0, low, 1), jnp.where(key > 0, high, 0)
    hidden = (~jnp.asarray(term.seen)).astype(jnp.int32)
    return jnp.zeros((1, T), jnp.int32), hidden, jnp.zeros_like(hidden)


def _stacked(vectors: list[Array], axis: int) -> Array:
    B = max(x.shape[0] for x in vectors)
    return jnp.stack([jnp.broadcast_to(x, (B, x.shape[1])) for x in vectors], axis)
