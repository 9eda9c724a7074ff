"""How tokens lie for the kernel, in each form of `forms`, and how results come back.

A layout is a pair of pure functions for each kind of array: `queries` and `queries_back`, `keys`
and `keys_back`, `lse` and `lse_back`. Attention over what the first of a pair gives, under the
layout's options, and then the second, is attention of the call; gradients go the same ways.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from crossattn.ops.kernels.cudnn.forms import with_keys
from crossattn.ops.kernels.cudnn.gathering import KeysInFront
from crossattn.ops.kernels.cudnn.options import Options
from crossattn.ops.kernels.cudnn.packing import Packing, Runs, SortedTokens, most_runs
from crossattn.ops.kernels.cudnn.writing import WrittenScores
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks import lowering
from crossattn.ops.masks.matching import Media, Segments
from crossattn.shapes import Array

__all__ = ["Ids", "InFront", "InPlace", "Packed", "TokenLayout", "Written"]


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """Tokens where they are, which is what the other layouts change."""

    options: Options
    rows: Array | None = None  # booleans (B|1, T, H|1): queries that see a key; None: all
    seen: Array | None = None  # booleans (B|1, S, K|1): keys to be read, the others as 0; None: all

    multiples = 2, 2  # of T and S: jax refuses the gradient of odd ones

    def with_options(self, **changed: Any) -> TokenLayout:
        """The same with other options."""
        return dataclasses.replace(self, options=self.options._replace(**changed))

    def queries(self, x: Array) -> Array:
        """What belongs to queries, (B, T, H, X)."""
        return x

    queries_back = queries

    def keys(self, x: Array) -> Array:
        """What belongs to keys, (B, S, K, X)."""
        return x

    keys_back = keys

    def lse(self, x: Array) -> Array:
        """What belongs to rows of scores, (B, H, T)."""
        return x

    lse_back = lse

    def bias_back(self, ds: Array, bias: Array) -> Array:
        """The gradient of the bias of a call from that of the scores, where there is one."""
        raise NotImplementedError


class InPlace(TokenLayout):
    """Lengths and bands."""

    @classmethod
    def of(cls, call: AttentionCall) -> InPlace:
        (B, T, S, *_), mask = call.sizes, call.mask
        rows, keys = lowering.padding(mask, T, S)
        counts = (None if x is None else x.sum(1, dtype=jnp.int32) for x in (rows, keys))
        if keys is not None:  # causal(0) leaves no query without a key
            some = jnp.broadcast_to(keys.any(1)[:, None], (B, T))
            rows = some if rows is None else rows & some
        seen = lowering.seen_keys(mask, B, T, S)
        return cls(Options.of(call, *counts), _by_head(rows), _by_head(seen))


@dataclasses.dataclass(frozen=True)
class InFront(TokenLayout):
    """Visible keys first."""

    front: Any = None  # a KeysInFront

    @classmethod
    def of(cls, call: AttentionCall) -> InFront:
        B, T, S, *_ = call.sizes
        rows, keys = lowering.padding(with_keys(call.mask, B, S), T, S)
        assert keys is not None  # this form is for masks of keys
        front = KeysInFront.of(keys if rows is None else keys & rows.any(1, keepdims=True))
        options = Options.of(call, None if rows is None else rows.sum(1), front.counts)
        some = jnp.broadcast_to((front.counts > 0)[:, None], (B, T))
        return cls(options, _by_head(some if rows is None else rows & some), front=front)

    def keys(self, x: Array) -> Array:
        return self.front.forth(x)

    def keys_back(self, x: Array) -> Array:
        return self.front.back(x)


@dataclasses.dataclass(frozen=True)
class Written(TokenLayout):
    """Bias and mask in one array."""

    scores: Any = None  # WrittenScores

    # Whole tiles of keys: cuDNN's gradient of q was NaN for S % 128 == 64 (pytorch#196678).
    multiples = 2, 128

    @classmethod
    def of(cls, call: AttentionCall) -> Written:
        scores = WrittenScores.of(call)
        T, S = (-(-n // by) * by for n, by in zip((call.T, call.S), cls.multiples, strict=True))
        options = Options(call.scale, heads_first=call.heads_first, bias=scores.padded(T, S))
        options = options._replace(bias_gradient=call.bias is not None)
        return cls(options, scores.rows, scores.keys, scores)

    def bias_back(self, ds: Array, bias: Array) -> Array:
        return self.scores.bias_gradient(ds, bias)


class Ids(NamedTuple):
    """A mask as ids: a query sees the keys with its own id, where both are real."""

    query: Array  # int32 (B, T)
    key: Array  # int32 (B, S)
    queries: Array  # booleans (B, T)
    keys: Array  # booleans (B, S)

    @classmethod
    def of(cls, call: AttentionCall) -> Ids:
        (B, T, S, *_), every = call.sizes, lambda n: jnp.ones((call.q.shape[0], n), bool)
        mask = with_keys(call.mask, B, S)
        rows, keys = lowering.padding(mask, T, S)
        rows, keys = (every(n) if x is None else x for x, n in ((rows, T), (keys, S)))
        (term,) = (x for x in mask.terms if isinstance(x, Segments | Media))
        query, key = (x.astype(jnp.int32) for x in (term.query, term.key))
        if isinstance(term, Media):  # 0 (and less) is no image
            rows, keys = rows & (query > 0), keys & (key > 0)
        return cls(query, key, rows, keys)

    def packing(self) -> Packing:
        """The runs as they stand; whether that is all of the mask, it says itself."""
        sides = (self.query, self.queries), (self.key, self.keys)
        return Packing.of(*(Runs.of(*side, most_runs(side[0].shape[1])) for side in sides))

    def ordered(self) -> tuple[Ids, SortedTokens, SortedTokens]:
        """The same with equal ids side by side, and the orders of queries and keys."""
        query = SortedTokens.of(self.query, self.queries)
        key = SortedTokens.of(self.key, self.keys)
        forth = lambda order, *xs: (order.forth(x) for x in xs)
        queries, rows = forth(query, self.query, self.queries)
        keys, seen = forth(key, self.key, self.keys)
        return Ids(queries, keys, rows, seen), query, key


@dataclasses.dataclass(frozen=True)
class Packed(TokenLayout):
    """Runs of equal ids; grouped heads become further queries of one key head."""

    packing: Any = None  # a Packing of the tokens in their order
    order: Any = None  # SortedTokens of queries and of keys; None: as they stand
    groups: int = 1

    @classmethod
    def of(cls, call: AttentionCall, packing: Packing, order: Any, whole: bool = False) -> Packed:
        """`whole` says that no query and no key is hidden."""
        _, T, S, H, K = call.sizes
        packing = packing.grouped(H // K)
        causal = lowering.static_band(call.mask, T, S) is not None
        options = Options(call.scale, causal, packed=packing.sequences)
        if whole:
            return cls(options, None, None, packing, order, H // K)
        rows, seen = packing.queries[:, :: H // K], packing.keys
        if order is not None:
            rows, seen = (x.back(y) for x, y in zip(order, (rows, seen), strict=True))
        return cls(options, _by_head(rows), _by_head(seen), packing, order, H // K)

    def queries(self, x: Array) -> Array:
        x = x if self.order is None else self.order[0].forth(x)
        B, T, H, X = x.shape
        split = x.reshape(B, T, H // self.groups, self.groups, X).swapaxes(2, 3)
        return split.reshape(B, T * self.groups, H // self.groups, X)

    def queries_back(self, x: Array) -> Array:
        B, N, K, X = x.shape
        x = x.reshape(B, N // self.groups, self.groups, K, X).swapaxes(2, 3)
        x = x.reshape(B, N // self.groups, K * self.groups, X)
        return x if self.order is None else self.order[0].back(x)

    def keys(self, x: Array) -> Array:
        return x if self.order is None else self.order[1].forth(x)

    def keys_back(self, x: Array) -> Array:
        return x if self.order is None else self.order[1].back(x)

    def lse(self, x: Array) -> Array:
        rows = self.queries(x.swapaxes(1, 2)[..., None])[..., 0]
        return self.packing.by_sequence(rows.swapaxes(1, 2))

    def lse_back(self, x: Array) -> Array:
        rows = self.packing.by_query(x).swapaxes(1, 2)
        return self.queries_back(rows[..., None])[..., 0].swapaxes(1, 2)


def _by_head(x: Array | None) -> Array | None:
    return None if x is None else x[:, :, None]
