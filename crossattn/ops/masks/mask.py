"""Which query sees which key, said symbolically.

A mask is a conjunction of terms, each of which holds only what it needs (lengths, ids, an offset),
so that a T x S array need not exist and an implementation can ask for the part that it works on.
Queries are rows, keys are columns, both count from 0, 1 = visible:

    lengths(key=[2])   causal(0)   causal(1)   window(1, 0, 0)   window(0, 1, 1)
        1 1 0 0         1 0 0 0     1 1 0 0        1 0 0 0           0 1 1 0
        1 1 0 0         1 1 0 0     1 1 1 0        1 1 0 0           0 0 1 1
        1 1 0 0         1 1 1 0     1 1 1 1        0 1 1 0           0 0 0 1

    segments([[1, 1, 2]], [[1, 2, 2, 0]])   media([[0, 1, 2]], [[1, 1, 2, 0]])   latest_only=False
        1 0 0 0                                 0 0 0 0                              0 0 0 0
        1 0 0 0                                 1 1 0 0                              1 1 0 0
        0 1 1 0                                 0 0 1 0                              1 1 1 0
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.masks.arguments import (
    check_shape,
    checked_booleans,
    checked_counts,
    checked_distance,
    checked_ids,
)
from crossattn.ops.masks.display import DrawnMask
from crossattn.ops.masks.matching import Media, Segments
from crossattn.ops.masks.parts import Cut, Part, Span
from crossattn.ops.masks.terms import Band, Causal, DensePairs, Keys, Lengths, Window
from crossattn.ops.numbers import short_repr
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array, Bool, Int

__all__ = ["BlockVisibility", "Mask", "Span"]

Rows = Int[Array, "#B R"] | Int[Array, " R"] | Span | None
Columns = Int[Array, "#B C"] | Int[Array, " C"] | Span | None


class BlockVisibility(NamedTuple):
    """What of a call that is cut into blocks can be skipped, and what needs no mask.

    Booleans (B|1, ceil(T / query_block), ceil(S / key_block)), for all heads at once.
    """

    some: Any  # False: nothing in the block is visible
    full: Any  # True: all of it is visible, and it lies wholly inside T x S


@dataclasses.dataclass(frozen=True, repr=False)
class Mask(DrawnMask):
    """A conjunction of visibility terms; `Mask()` hides nothing, `a & b` shows what both show.

    A pytree whose arrays and integers are leaves: it passes through `jit`, `scan` and `vmap`, and
    new lengths, ids or offsets recompile nothing. Integers have any dtype; huge ones do not wrap.

    >>> mask = Mask.lengths(key=jnp.array([2, 3])) & Mask.causal(0)
    >>> mask
    Mask.lengths(key=int32[2]) & Mask.causal(0)
    >>> mask.dense_array(2, 3, 4)[0, 0].astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]]
    """

    terms: tuple[Any, ...] = ()

    @classmethod
    def lengths(cls, query: Any = None, key: Any = None) -> Mask:
        """Only the first `query[b]` queries and the first `key[b]` keys are real.

        Integers (B,). Queries beyond their length see nothing: output and gradients are 0.
        """
        if query is None and key is None:
            raise ValueError(
                "Mask.lengths() hides nothing: write Mask.lengths(key=lengths) with integers (B,)"
            )
        query = checked_counts("Mask.lengths(query=...)", query, "B")
        return cls((Lengths(query, checked_counts("Mask.lengths(key=...)", key, "B")),))

    @classmethod
    def segments(cls, query: Any, key: Any) -> Mask:
        """A query sees the keys with its own id: integers `query` (B, T) and `key` (B, S).

        No id is special. Give padding an id that the other side does not use, or add lengths.
        """
        if query is None or key is None:
            raise ValueError("Mask.segments(query, key) needs both: integer ids (B, T) and (B, S)")
        query = checked_ids("Mask.segments(query=...)", query, "B T")
        return cls((Segments(query, checked_ids("Mask.segments(key=...)", key, "B S")),))

    @classmethod
    def media(cls, query_media: Any, key_media: Any, latest_only: bool = True) -> Mask:
        """A text token sees the latest image begun before it, or with latest_only=False every one.

        `query_media` (B, T): how many images have begun at or before the token; 0: it sees nothing.
        `key_media` (B, S): which image the key belongs to, from 1; 0: none, and no one sees it.
        (Alayrac et al. 2022, "Flamingo", section 3.1.3.)
        """
        if query_media is None or key_media is None:
            raise ValueError(
                "Mask.media(query_media, key_media) needs both: integers (B, T) and (B, S)"
            )
        if not isinstance(latest_only, bool | np.bool_):
            raise TypeError(
                f"Mask.media(latest_only) is static, got {short_repr(latest_only)}: "
                "write True or False"
            )
        query = checked_ids("Mask.media(query_media, ...)", query_media, "B T")
        key = checked_ids("Mask.media(..., key_media)", key_media, "B S")
        return cls((Media(query, key, bool(latest_only)),))

    @classmethod
    def causal(cls, offset: Any = None) -> Mask:
        """Query i sees key j where `i + offset >= j`; offset is an integer or integers (B,).

        The offset may be left out only where T == S (it is 0 there): libraries disagree on it for
        T != S. With `S - T` the last query sees the last key, with 0 the first sees the first.
        """
        return cls((Causal(checked_distance("Mask.causal(offset)", offset, "Mask.causal(0)")),))

    @classmethod
    def window(cls, left: Any, right: Any, offset: Any = None) -> Mask:
        """Query i sees key j where `i + offset - left <= j <= i + offset + right`, both inclusive.

        Integers or integers (B,), of either sign; a side of None is unbounded. The offset is that
        of `causal`, and may be left out only where T == S, too.
        """
        left, right, offset = (
            checked_distance(f"Mask.window({name})", value, "Mask.window(1, 1, offset=0)")
            for name, value in (("left", left), ("right", right), ("offset", offset))
        )
        return cls((Window(left, right, offset),))

    @classmethod
    def keys(cls, visible: Any) -> Mask:
        """Key s of example b can be seen where `visible[b, s]`; booleans (B, S)."""
        return cls((Keys(checked_booleans("Mask.keys(...)", visible, "B S")),))

    @classmethod
    def dense(cls, visible: Any) -> Mask:
        """Any visibility, written out: booleans (B|1, H|1, T|1, S|1), True = visible."""
        return cls((DensePairs(checked_booleans("Mask.dense(...)", visible, "B|1 H|1 T|1 S|1")),))

    def __and__(self, other: Mask) -> Mask:
        if not isinstance(other, Mask):
            raise TypeError(f"Mask & {type(other).__name__}: write mask & Mask.dense(visible)")
        return Mask(self.terms + other.terms)

    __rand__ = __and__
    __array_ufunc__ = None  # numpy leaves `array & mask` to us

    def dense_array(self, B: int, T: int, S: int) -> Bool[Array, "B h T S"]:
        """Written out as booleans (B, 1|H, T, S), for tests, pictures and dense implementations."""
        visible = self.visible(B, T, S)
        return jnp.broadcast_to(visible, (B, visible.shape[1], T, S))

    def visible(
        self, B: int, T: int, S: int, rows: Rows = None, columns: Columns = None
    ) -> Bool[Array, "#B h t s"]:
        """Booleans (B|1, H|1, R|T|1, C|S|1) that broadcast, of all pairs or of chosen ones.

        `rows`, integers (R,) or (B|1, R) in [0, T), chooses queries, `columns`, integers (C,) or
        (B|1, C) in [0, S), keys; `Span(start, size)` chooses neighbours, faster. All may be traced,
        and only the pairs asked for are computed.
        """
        self.check(B, None, T, S)
        queries, keys = Part(T, rows), Part(S, columns)
        out = jnp.ones((1, 1, 1, 1), bool)
        for term in self.terms:
            out = out & term.visible(queries, keys)
        return out

    def blocks(self, B: int, T: int, S: int, query_block: int, key_block: int) -> BlockVisibility:
        """Which blocks of queries x keys hold `some` visible pair, and which are `full` of them.

        From a summary of each block of queries and of each block of keys, in O(T + S + blocks)
        memory (`dense` alone reduces the array that it is). `full` is exact: every pair is visible
        for every head, and the block is no ragged end of T or S. `some` is never False where a pair
        is visible for any head; it is exact for lengths, causal, window, keys and dense, for
        segments and media where the ids within each block have no gaps, and for a conjunction it is
        that of the terms'.

        >>> some, full = Mask.causal(0).blocks(1, 4, 6, query_block=2, key_block=2)
        >>> some[0].astype(int).tolist(), full[0].astype(int).tolist()
        ([[1, 0, 0], [1, 1, 0]], [[0, 0, 0], [1, 0, 0]])
        """
        if query_block < 1 or key_block < 1:
            raise ValueError(
                f"blocks have at least one entry, got query_block={query_block} and "
                f"key_block={key_block}"
            )
        self.check(B, None, T, S)
        queries, keys = Cut(T, query_block), Cut(S, key_block)
        some = jnp.ones((1, queries.count, keys.count), bool)
        full = some & jnp.asarray(queries.whole[:, None] & keys.whole[None])[None]
        for term in self.terms:
            term_some, term_full = term.blocks(queries, keys)
            some, full = some & term_some, full & term_full
        return BlockVisibility(some, full)

    def split_keys(self, B: int, T: int, S: int, parts: int) -> Mask:
        """The mask of the same call with its keys in `parts` parts along the batch.

        Keys (B, S, ...) reshaped to (B * parts, S / parts, ...), queries (B, T, ...) repeated to
        (B * parts, T, ...): row b * parts + p is part p of example b.

        >>> Mask.causal(1).split_keys(1, 2, 4, 2).dense_array(2, 2, 2).astype(int).tolist()
        [[[[1, 1], [1, 1]]], [[[0, 0], [1, 0]]]]
        """
        self.check(B, None, T, S)
        if parts < 1 or S % parts:
            raise ValueError(
                f"S={S} keys cannot be split into {parts} equal parts: write "
                "mask.padded(B, T, S, T, keys) with a multiple first"
            )
        if parts == 1:
            return self
        return Mask(tuple(term.split(B, T, S, parts) for term in self.terms))

    def padded(self, B: int, T: int, S: int, query_to: int, key_to: int) -> Mask:
        """The mask of the same call with its queries padded to `query_to`, its keys to `key_to`.

        Padding stands at the end, sees nothing, and is seen by no one.
        """
        self.check(B, None, T, S)
        if all_known(T, S) and (query_to < T or key_to < S):
            raise ValueError(f"T={T}, S={S} cannot be padded to fewer: {query_to}, {key_to}")
        if query_to == T and key_to == S:
            return self
        query, key = (
            jnp.full((B,), n, jnp.int32) if to != n else None
            for n, to in ((T, query_to), (S, key_to))
        )
        return Mask((*(term.padded(query_to, key_to) for term in self.terms), Lengths(query, key)))

    @property
    def local(self) -> bool:
        """Whether each query sees keys of its own, so that of large blocks little is visible."""
        return any(isinstance(term, Window | Segments | Media) for term in self.terms)

    def check(self, B: int, H: int | None, T: int, S: int) -> None:
        """Raise ValueError where a term does not fit; H = None leaves the heads unchecked."""
        sizes = {"B": B, "H": H, "T": T, "S": S}
        for term in self.terms:
            for name, value, axes in term.arguments():
                if value is not None:
                    check_shape(name, jnp.shape(value), axes, sizes)
            if isinstance(term, Band) and term.offset is None and T != S:
                raise ValueError(
                    f"{term.written.format('')} is ambiguous for T={T} queries and S={S} keys: "
                    f"write {term.written.format(S - T)} if the last query stands at the last key, "
                    f"{term.written.format(0)} if the first query stands at the first key"
                )


jax.tree_util.register_dataclass(Mask, data_fields=["terms"], meta_fields=[])
