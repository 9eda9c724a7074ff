"""Equal ids as packed sequences: runs of queries, each with its run of keys.

cuDNN's packed layout takes, for every sequence, where its queries and its keys begin and how many
there are. It reads and writes nothing in between, so that tokens which match nothing lie in no
sequence at all. Runs may stand in any order, not the same for queries and keys.

Grouped heads become further queries of one key head: jax before 0.11.1 measures the keys' offsets
in query heads (jax-ml/jax#39521).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.cudnn.gathering import nth_true, take_tokens
from crossattn.ops.kernels.cudnn.options import PackedSequences
from crossattn.shapes import Array

__all__ = ["Packing", "Runs", "SortedTokens", "most_runs"]

MOST = 32  # sequences of an example; more of them take longer even where they are empty


def most_runs(N: int) -> int:
    """Room for runs of N tokens, which is static: at least 2, since one is not packed for jax."""
    return max(2, min(N, MOST))


class Runs(NamedTuple):
    """Neighbours of one id, in the order in which they stand.

    >>> runs = Runs.of(jnp.array([[7, 7, 5, 5]]), jnp.array([[True, True, False, True]]), 3)
    >>> runs.starts.tolist(), runs.lengths.tolist(), runs.total.tolist()
    ([[0, 3, 0]], [[2, 1, 0]], [2])
    """

    starts: Array  # int32 (B, M)
    lengths: Array  # int32 (B, M); 0 where there is none
    ids: Array  # (B, M)
    number: Array  # int32 (B, N): the run that a token is in, or that was before it
    real: Array  # booleans (B, N): whether it is in one
    total: Array  # int32 (B,): how many there are, which may be more than M

    @classmethod
    def of(cls, ids: Array, real: Array, most: int) -> Runs:
        """Of integers (B, N), where tokens are real; at most the first `most` are kept."""
        on = (ids[:, 1:] == ids[:, :-1]) & real[:, 1:] & real[:, :-1]
        edge = jnp.zeros((ids.shape[0], 1), bool)
        first = real & ~jnp.concatenate([edge, on], 1)
        last = real & ~jnp.concatenate([on, edge], 1)
        starts, ends = nth_true(first, most), nth_true(last, most) + 1
        used = starts < ids.shape[1]
        starts, lengths = (jnp.where(used, x, 0) for x in (starts, ends - starts))
        number = jnp.cumsum(first, 1, dtype=jnp.int32) - 1
        return cls(starts, lengths, take_tokens(ids, starts), number, real, first.sum(1))

    def tokens_of(self, chosen: Array) -> Array:
        """Booleans (B, N): tokens of the runs that are chosen, (B, M)."""
        return self.real & take_tokens(chosen, jnp.maximum(self.number, 0))


class Packing(NamedTuple):
    """A sequence for each run of queries: its keys are the run with the same id.

    Sequences without keys or queries have both lengths 0.
    """

    query_starts: Array  # int32 (B, M)
    query_lengths: Array
    key_starts: Array
    key_lengths: Array
    number: Array  # int32 (B, T): the sequence that a query is in
    queries: Array  # booleans (B, T): whether it is in one
    keys: Array  # booleans (B, S): whether a key is
    fits: Array  # booleans (B,): whether each id is one run, and all of them are there

    @classmethod
    def of(cls, query: Runs, key: Runs) -> Packing:
        """Of runs of queries and of keys."""
        M = query.starts.shape[1]
        some = lambda runs: runs.lengths > 0
        match = (query.ids[:, :, None] == key.ids[:, None]) & some(query)[:, :, None]
        match = match & some(key)[:, None]
        found, which = match.any(2), jnp.argmax(match, 2)
        once = (match.sum(1) <= 1).all(1) & (match.sum(2) <= 1).all(1)
        fits = once & (query.total <= M) & (key.total <= key.starts.shape[1])
        given = lambda x: jnp.where(found, x, 0)
        return cls(
            given(query.starts),
            given(query.lengths),
            given(jnp.take_along_axis(key.starts, which, 1)),
            given(jnp.take_along_axis(key.lengths, which, 1)),
            jnp.clip(query.number, 0, M - 1),
            query.tokens_of(found),
            key.tokens_of(match.any(1)),
            fits,
        )

    def grouped(self, groups: int) -> Packing:
        """Where each query is several, side by side."""
        if groups == 1:
            return self
        number, queries = (jnp.repeat(x, groups, 1) for x in (self.number, self.queries))
        starts, lengths = self.query_starts * groups, self.query_lengths * groups
        return self._replace(
            query_starts=starts, query_lengths=lengths, number=number, queries=queries
        )

    @property
    def sequences(self) -> PackedSequences:
        """What the kernels are told."""
        return PackedSequences(*self[:4])

    @property
    def whole(self) -> Array:
        """Whether every query and every key of the batch is in a sequence."""
        return self.queries.all() & self.keys.all()

    @property
    def aligned(self) -> Array:
        """Booleans (B,): whether queries and keys of each sequence begin at the same position."""
        return ((self.query_starts == self.key_starts) | (self.query_lengths == 0)).all(1)

    def by_sequence(self, lse: Array) -> Array:
        """(B, H, T) to (B M, H, T) as the kernels hold it: each sequence's queries in front."""
        B, H, T = lse.shape
        i = jnp.arange(T, dtype=jnp.int32)[None, None]
        at = self.query_starts[:, :, None] + i
        at = jnp.where(i < self.query_lengths[:, :, None], at, T).reshape(B, -1)
        out = take_tokens(lse.swapaxes(1, 2), at)  # (B, M T, H)
        return out.reshape(-1, T, H).swapaxes(1, 2)

    def by_query(self, lse: Array) -> Array:
        """(B M, H, T) to (B, H, T); anything for queries in no sequence."""
        B, T = self.number.shape
        M, H = self.query_starts.shape[1], lse.shape[1]
        rows = lse.swapaxes(1, 2).reshape(B, M * T, H)
        start = jnp.take_along_axis(self.query_starts, self.number, 1)
        inside = jnp.clip(jnp.arange(T, dtype=jnp.int32)[None] - start, 0, T - 1)
        return take_tokens(rows, self.number * T + inside).swapaxes(1, 2)


class SortedTokens(NamedTuple):
    """Tokens of equal ids side by side, in their order; those that are not real at the end."""

    order: Array  # int32 (B, N): which token stands there now
    places: Array  # int32 (B, N): where a token stands now

    @classmethod
    def of(cls, ids: Array, real: Array) -> SortedTokens:
        """Of integers (B, N), where tokens are real."""
        number = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 1)
        *_, order = jax.lax.sort((~real, ids, number), dimension=1, num_keys=2, is_stable=True)
        _, places = jax.lax.sort((order, number), dimension=1, num_keys=1)
        return cls(order, places)

    def forth(self, x: Array) -> Array:
        """(B, N, ...) in the new order."""
        return take_tokens(x, self.order)

    def back(self, x: Array) -> Array:
        """(B, N, ...) in the old order."""
        return take_tokens(x, self.places)
