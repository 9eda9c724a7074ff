"""Masks as kernels take them: one band known at compilation, padding, ids that match, fewer keys.

A kernel sees no `Mask`. Whatever a call's terms say is brought into that form here, or the reason
is given why it cannot be: nothing of T x S entries is written out on the way.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.masks.arrays import clip_to
from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.matching import Media, Segments
from crossattn.ops.masks.terms import Band, DensePairs, Keys, Lengths
from crossattn.shapes import Array

__all__ = [
    "Padding",
    "StaticBand",
    "gather_visible",
    "matched_ids",
    "padding",
    "reason",
    "seen_keys",
    "static_band",
]

INT32 = np.iinfo(np.int32)


@dataclasses.dataclass(frozen=True)
class StaticBand:
    """Query i sees key j where `low <= j - i <= high` and `j < stop`: all bands of a mask at once.

    Hashable and callable on indices, so that a kernel can compute it block by block.
    """

    low: int
    high: int
    stop: int

    def __call__(self, i: Any, j: Any) -> Any:
        """Booleans for integer arrays of queries i and keys j that broadcast."""
        return (j - i <= self.high) & (j - i >= self.low) & (j < self.stop)

    def kinds(self, rows: int, columns: int, row_block: int, column_block: int) -> np.ndarray:
        """int32 (row blocks, column blocks): 0 all hidden, 1 some visible, 2 all visible.

        Blocks of row r start at `r * row_block`; safe where `stop` cuts a block.
        """
        i = np.arange(0, rows, row_block)[:, None]
        j = np.arange(0, columns, column_block)[None]
        # `j - i` takes every value from `least` to `most` in a block.
        least, most = j - (i + row_block - 1), (j + column_block - 1) - i
        some = (least <= self.high) & (most >= self.low) & (j < self.stop) & (self.low <= self.high)
        full = (most <= self.high) & (least >= self.low) & (j + column_block <= self.stop)
        return (some.astype(np.int32) + full).astype(np.int32)


class Padding(NamedTuple):
    """Which tokens are real, by lengths and `Mask.keys`; None: all of them."""

    queries: Array | None  # booleans (B, T)
    keys: Array | None  # booleans (B, S)


def reason(mask: Mask) -> str | None:
    """Why a mask is not one band, padding, and at most one kind of ids; None if it is."""
    if any(isinstance(term, DensePairs) for term in mask.terms):
        return "a dense mask: write it as lengths, keys, segments, causal or window"
    for term in mask.terms:
        if isinstance(term, Band) and not all(
            x is None or isinstance(x, int) for x in (term.left, term.right, term.offset)
        ):
            return (
                f"{term.written.format('...')} with a traced or an array argument: blocks are "
                "chosen at compilation; write Python integers, closed over rather than passed "
                "through jit"
            )
        if isinstance(term, Media) and not term.latest_only:
            return "Mask.media(latest_only=False): only equal ids can be matched"
    matching = [term for term in mask.terms if isinstance(term, Segments | Media)]
    if len(matching) > 1:
        return "two terms of segments or media: one id a token can be matched; combine the ids"
    for term in matching:
        for x in (term.query, term.key):
            if not np.can_cast(x.dtype, np.int32):
                return f"{x.dtype} ids: write ids.astype(jnp.int32)"
    return None


def static_band(mask: Mask, T: int, S: int) -> StaticBand | None:
    """All bands of a mask that has no `reason` against it; None where they hide nothing."""
    # Beyond these limits nothing changes, and sums with indices cannot wrap.
    low, high = -T, S
    for term in mask.terms:
        if isinstance(term, Band):
            offset = term.offset or 0
            low = low if term.left is None else max(low, min(offset - term.left, S))
            high = high if term.right is None else min(high, max(offset + term.right, -T))
    return None if low <= 1 - T and high >= S - 1 else StaticBand(low, high, S)


def padding(mask: Mask, T: int, S: int) -> Padding:
    """Lengths and `Mask.keys` of a mask, all together."""
    queries: list[Array] = []
    keys: list[Array] = []
    for term in mask.terms:
        if isinstance(term, Lengths):
            for out, length, n in ((queries, term.query, T), (keys, term.key, S)):
                if length is not None:
                    out.append(
                        jnp.arange(n, dtype=jnp.int32)[None] < clip_to(length, 0, n)[:, None]
                    )
        if isinstance(term, Keys):
            keys.append(term.seen)
    return Padding(*(_all(x) for x in (queries, keys)))


def matched_ids(mask: Mask, B: int, T: int, S: int, S_to: int) -> tuple[Array, Array] | None:
    """int32 (B, T) and (B, S_to): a query may see the keys with its own id, but for bands.

    Keys that are padding, or hidden from all, have an id that no query has. None where no key is
    hidden one by one. (One example whose queries use both the smallest and the largest int32 as
    ids would leave no id that is surely free: the only ids that are special.)
    """
    real = padding(mask, T, S).keys
    matching = [term for term in mask.terms if isinstance(term, Segments | Media)]
    if not matching and real is None:
        return None
    query, key = jnp.zeros((B, T), jnp.int32), jnp.zeros((B, S), jnp.int32)
    for term in matching:
        query, key = (x.astype(jnp.int32) for x in (term.query, term.key))
        if isinstance(term, Media):  # 0 (and less) is no image: such keys are hidden
            query, key = jnp.maximum(query, 0), jnp.maximum(key, 0)
            real = key > 0 if real is None else real & (key > 0)
    largest, least = query.max(1, keepdims=True), query.min(1, keepdims=True)
    free = jnp.where(largest < INT32.max, largest + 1, least - 1)
    if real is not None:
        key = jnp.where(real, key, free)
    return query, jnp.concatenate([key, jnp.broadcast_to(free, (B, S_to - S))], 1)


def seen_keys(mask: Mask, B: int, T: int, S: int) -> Array | None:
    """Booleans (B|1, S): keys that some query sees; None where that is all of them.

    The others may hold NaN, and 0 * NaN is NaN: they become 0 before any product.
    """
    if any(isinstance(term, Segments | Media) for term in mask.terms):
        # Compared and reduced in one fused loop: the pairs are not kept.
        return mask.visible(B, T, S).any(2)[:, 0]
    band, real = static_band(mask, T, S) or StaticBand(-T, S, S), padding(mask, T, S)
    keys = np.arange(S, dtype=np.int32)[None]
    first, last = np.maximum(keys - band.high, 0), np.minimum(keys - band.low, T - 1)
    if real.queries is None and real.keys is None and np.all(first <= last):
        return None
    rows = np.full((1, 1), T, np.int32) if real.queries is None else real.queries.sum(1)[:, None]
    seen = jnp.asarray(first) <= jnp.minimum(last, rows - 1)
    return seen if real.keys is None else seen & real.keys


def gather_visible(mask: Mask, B: int, T: int, S: int) -> tuple[Mask, Array | None]:
    """The mask of the same call on its visible keys, and where they lie, int32 (B|1, S).

    None where terms of other kinds than `keys` and `lengths` stand beside, or no `keys`: keys
    stay as they are. Visible keys keep their order; S stands for each that is hidden.

    >>> mask, places = gather_visible(Mask.keys(jnp.array([[False, True, True]])), 1, 2, 3)
    >>> places.tolist(), mask.dense_array(1, 2, 3).astype(int).tolist()
    ([[1, 2, 3]], [[[[1, 1, 0], [1, 1, 0]]]])
    """
    mask.check(B, None, T, S)
    by_key = [isinstance(term, Keys) for term in mask.terms]
    if not any(by_key) or not all(isinstance(term, Keys | Lengths) for term in mask.terms):
        return mask, None
    hidden = [Lengths(None, term.key) if isinstance(term, Lengths) else term for term in mask.terms]
    seen = Mask(tuple(hidden)).visible(B, 1, S)[:, 0, 0]
    find = partial(jnp.nonzero, size=S, fill_value=S)
    places = jax.vmap(lambda row: find(row)[0].astype(jnp.int32))(seen)
    counts = jnp.broadcast_to(seen.sum(1, dtype=jnp.int32), (B,))
    rest = [
        Lengths(term.query, None)
        for term in mask.terms
        if isinstance(term, Lengths) and term.query is not None
    ]
    return Mask((Lengths(None, counts), *rest)), places


def _all(conditions: list[Array]) -> Array | None:
    out: Array | None = None
    for condition in conditions:
        out = condition if out is None else out & condition
    return out
