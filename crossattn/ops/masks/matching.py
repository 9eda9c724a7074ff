"""The terms of a `Mask` that match ids of queries with ids of keys; see `terms`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.masks import arrays
from crossattn.ops.masks.parts import Argument, Cut, Pair, Part, term
from crossattn.shapes import Array

__all__ = ["Media", "Segments"]


@dataclasses.dataclass(frozen=True)
class _Ids:
    """An id for every query and every key."""

    query: Any
    key: Any

    def split(self, B: int, T: int, S: int, parts: int) -> Any:
        query = jnp.repeat(self.query, parts, axis=0)
        return dataclasses.replace(self, query=query, key=arrays.split_keys(self.key, parts))

    def padded(self, T: int, S: int) -> Any:
        return dataclasses.replace(
            self, query=arrays.grow(self.query, 1, T), key=arrays.grow(self.key, 1, S)
        )


@term
class Segments(_Ids):
    """A query sees the keys with its own id."""

    query: Any
    key: Any

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.segments(query=...)", self.query, "B T"
        yield "Mask.segments(key=...)", self.key, "B S"

    def visible(self, queries: Part, keys: Part) -> Array:
        query, key = _comparable(queries.take(self.query), keys.take(self.key))
        return arrays.pairs(jnp.equal, query, key)[:, None]

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        # Two intervals that do not meet share no id; two that are one and the same id share all.
        query, key = _comparable(self.query, self.key)
        low, high = queries.fold(jnp.min, query), queries.fold(jnp.max, query)
        key_low, key_high = keys.fold(jnp.min, key), keys.fold(jnp.max, key)
        some = arrays.pairs(jnp.less_equal, low, key_high) & arrays.pairs(
            jnp.greater_equal, high, key_low
        )
        one = arrays.pairs(jnp.logical_and, low == high, key_low == key_high)
        return some, one & arrays.pairs(jnp.equal, low, key_low)


@term
class Media(_Ids):
    """A query sees its latest image, or every image so far; ids from 1, 0 = none."""

    query: Any
    key: Any
    latest_only: bool = dataclasses.field(metadata={"static": True})

    def arguments(self) -> Iterator[Argument]:
        yield "Mask.media(query_media, ...)", self.query, "B T"
        yield "Mask.media(..., key_media)", self.key, "B S"

    def visible(self, queries: Part, keys: Part) -> Array:
        query, key, top = _images(queries.take(self.query), keys.take(self.key))
        # Whatever is no image gets an id that meets nothing: once a token, not once a pair.
        if self.latest_only:
            seen = arrays.pairs(jnp.equal, jnp.where(query == 0, -1, query), key)
        else:
            seen = arrays.pairs(jnp.greater_equal, query, jnp.where(key == 0, top, key))
        return seen[:, None]

    def blocks(self, queries: Cut, keys: Cut) -> Pair:
        query, key, top = _images(self.query, self.key)
        low, high = queries.fold(jnp.min, query), queries.fold(jnp.max, query)
        key_low, key_high = keys.fold(jnp.min, key), keys.fold(jnp.max, key)
        # The smallest id of an image, without the zeros.
        image_low = keys.fold(jnp.min, jnp.where(key == 0, top, key))
        some = arrays.pairs(jnp.greater_equal, high, image_low)
        if not self.latest_only:
            full = (key_low > 0)[:, None, :] & arrays.pairs(jnp.greater_equal, low, key_high)
            return some, full
        begun = queries.fold(jnp.min, jnp.where(query == 0, top, query))
        some = some & arrays.pairs(jnp.less_equal, begun, key_high)
        one = arrays.pairs(jnp.logical_and, low == high, key_low == key_high)
        return some, one & arrays.pairs(jnp.equal, low, jnp.where(key_low == 0, -1, key_low))


def _comparable(query: Array, key: Array) -> Pair:
    """Both in one dtype in which they are equal exactly where the ids are."""
    query, key = (x.astype(jnp.int32) if x.dtype.itemsize < 4 else x for x in (query, key))
    common = np.promote_types(query.dtype, key.dtype)
    if common.kind in "iu" and jax.dtypes.canonicalize_dtype(common) == common:
        return query.astype(common), key.astype(common)
    # uint32 beside signed ids without 64 bits, or uint64 beside them: what only one of the two can
    # hold meets nothing, and becomes -2 or -1.
    dtype = arrays.wide(query, key)

    def cast(x: Array) -> Array:
        if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
            return jnp.where(x > jnp.iinfo(dtype).max, -2, x.astype(dtype))
        return jnp.maximum(x.astype(dtype), -1)

    return cast(query), cast(key)


def _images(query: Array, key: Array) -> tuple[Array, Array, int]:
    """Both in one dtype, 0 = none, and an id beyond all of theirs."""
    dtype = arrays.wide(query, key)
    top = int(jnp.iinfo(dtype).max)
    return arrays.clip_to(query, 0, top - 1, dtype), arrays.clip_to(key, 0, top - 1, dtype), top
