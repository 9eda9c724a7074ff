"""The terms of a `Mask`: each holds only what it needs and computes only the part asked for.

Every term has the same four abilities:

    visible(queries, keys)   booleans (B|1, H|1, R|1, C|1) of a `Part` of the queries and the keys
    blocks(queries, keys)    (some, full), each (B|1, 1|rows, 1|columns), of a call `Cut` in blocks
    split(B, T, S, parts)    the term of a call whose keys are cut into parts along the batch
    padded(T, S)             the term of a call with so many queries and keys; lengths hide the rest

Only `DensePairs` touches an array of T x S entries: its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import jax.numpy as jnp

from crossattn.ops.masks import arrays
from crossattn.ops.masks.parts import Argument, Cut, Pair, Part, term
from crossattn.shapes import Array

__all__ = ["Band", "Causal", "DensePairs", "Keys", "Lengths", "Window"]


@term
class Lengths:
    """Only the first `query[b]` queries and the first `key[b]` keys are real."""

    query: Any
    key: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.lengths(query=...)", self.query, "B"
        yield "Mask.lengths(key=...)", self.key, "B"

    def visible(self, queries: Part, keys: Part) -> Array:
        return self._real(queries.n, keys.n, queries.positions, keys.positions)[:, None]

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        some = self._real(queries.n, keys.n, queries.first[None], keys.first[None])
        return some, self._real(queries.n, keys.n, queries.last[None], keys.last[None])

    def _real(self, T: int, S: int, rows: Any, columns: Any) -> Array:
        """(B|1, 1|R, 1|C) for positions (B|1, R) and (B|1, C)."""
        out = jnp.ones((1, 1, 1), bool)
        if self.key is not None:
            out = (columns < arrays.clip_to(self.key, 0, S)[:, None])[:, None, :]
        if self.query is not None:
            out = out & (rows < arrays.clip_to(self.query, 0, T)[:, None])[:, :, None]
        return out

    def split(self, B: int, T: int, S: int, parts: int) -> Lengths:
        query, key = self.query, self.key
        if query is not None:
            query = jnp.repeat(query, parts)
        if key is not None:
            key = jnp.repeat(arrays.clip_to(key, 0, S), parts) - arrays.starts(B, S, parts)
            key = jnp.clip(key, 0, S // parts)
        return Lengths(query, key)

    def padded(self, T: int, S: int) -> Lengths:
        return self


class Band:
    """Query i sees the keys from `i + offset - left` to `i + offset + right`; None = unbounded."""

    left: Any
    right: Any
    offset: Any
    written: ClassVar[str]

    def arguments(self) -> Iterator[Argument]:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            axes = "B" if value is not None and jnp.ndim(value) > 0 else ""
            yield f"{self.written.split('(')[0]}({field.name})", value, axes

    def visible(self, queries: Part, keys: Part) -> Array:
        low, high = self.limits(queries.n, keys.n)
        out = jnp.ones((1, 1, 1), bool)
        if high is not None:
            out = arrays.pairs(jnp.greater_equal, queries.positions + high[:, None], keys.positions)
        if low is not None:
            out = out & arrays.pairs(
                jnp.less_equal, queries.positions + low[:, None], keys.positions
            )
        return out[:, None]

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        # `key - query` takes every value from `least` to `most` in a block.
        least = (keys.first[None, :] - queries.last[:, None])[None]
        most = (keys.last[None, :] - queries.first[:, None])[None]
        low, high = self.limits(queries.n, keys.n)
        some = full = jnp.ones((1, 1, 1), bool)
        if high is not None:
            some, full = high[:, None, None] >= least, high[:, None, None] >= most
        if low is not None:
            some, full = some & (low[:, None, None] <= most), full & (low[:, None, None] <= least)
        if low is not None and high is not None:
            some = some & (low <= high)[:, None, None]
        return some, full

    def limits(self, T: int, S: int) -> Pair:
        """Smallest and largest visible `key - query`, int32 (B|1,); None where unbounded.

        Cut to [-T, S], which changes nothing, so that sums with positions cannot wrap.
        """
        offset = 0 if self.offset is None else self.offset
        low, high = (
            None if by is None else arrays.clip_to(arrays.total(offset, by, sign), -T, S)
            for by, sign in ((self.left, -1), (self.right, 1))
        )
        return low, high

    def padded(self, T: int, S: int) -> Any:
        # Left out, the offset was 0, since T and S were equal; they need not be so any more.
        if self.offset is not None:
            return self
        return dataclasses.replace(self, offset=0)  # type: ignore[type-var]


@term
class Causal(Band):
    """A band without a left end."""

    offset: Any
    left: ClassVar[None] = None  # type: ignore[misc]
    right: ClassVar[int] = 0  # type: ignore[misc]
    written: ClassVar[str] = "Mask.causal({})"

    def split(self, B: int, T: int, S: int, parts: int) -> Causal:
        _, high = self.limits(T, S)
        high = jnp.broadcast_to(high, (B,))
        return Causal(jnp.repeat(high, parts) - arrays.starts(B, S, parts))


@term
class Window(Band):
    """A band."""

    left: Any
    right: Any
    offset: Any
    written: ClassVar[str] = "Mask.window(left, right, {})"

    def split(self, B: int, T: int, S: int, parts: int) -> Window:
        low, high = (
            x if x is None else jnp.repeat(jnp.broadcast_to(x, (B,)), parts)
            for x in self.limits(T, S)
        )
        return Window(None if low is None else -low, high, -arrays.starts(B, S, parts))


@term
class Keys:
    """Key s of example b can be seen where `seen[b, s]`."""

    seen: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.keys(...)", self.seen, "B S"

    def visible(self, queries: Part, keys: Part) -> Array:
        return keys.take(self.seen)[:, None, None, :]

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        return keys.fold(jnp.any, self.seen)[:, None, :], keys.fold(jnp.all, self.seen)[:, None, :]

    def split(self, B: int, T: int, S: int, parts: int) -> Keys:
        return Keys(arrays.split_keys(self.seen, parts))

    def padded(self, T: int, S: int) -> Keys:
        return Keys(arrays.grow(self.seen, 1, S))


@term
class DensePairs:
    """Any visibility, written out."""

    seen: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.dense(...)", self.seen, "B|1 H|1 T|1 S|1"

    def visible(self, queries: Part, keys: Part) -> Array:
        return keys.take(queries.take(self.seen, 2), 3)

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        some = queries.fold(jnp.any, keys.fold(jnp.any, self.seen, 3), 2).any(1)
        return some, queries.fold(jnp.all, keys.fold(jnp.all, self.seen, 3), 2).all(1)

    def split(self, B: int, T: int, S: int, parts: int) -> DensePairs:
        b, h, t, s = self.seen.shape
        if s == 1:
            return self if b == 1 else DensePairs(jnp.repeat(self.seen, parts, axis=0))
        seen = jnp.moveaxis(self.seen.reshape(b, h, t, parts, s // parts), 3, 1)
        seen = jnp.broadcast_to(seen, (B, *seen.shape[1:]))
        return DensePairs(seen.reshape(B * parts, h, t, s // parts))

    def padded(self, T: int, S: int) -> DensePairs:
        seen = self.seen
        for axis, n in ((2, T), (3, S)):
            seen = seen if seen.shape[axis] == 1 else arrays.grow(seen, axis, n)
        return DensePairs(seen)
