"""One step of the TPU kernels that hold all keys: some query heads of a block of queries.

Scores lie with the keys along the sublanes and the queries along the lanes: maxima, sums and lse
are rows then, S is filled up to 16 and not to 128, and of the seven products of both directions
none contracts an axis that has to be turned first but those of the keys, which are turned once.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.private import PrivateModule
from crossattn.shapes import Array

__all__ = ["LANES", "ROWS", "SUBLANES", "Lying", "Step", "pallas"]

pallas = PrivateModule("jax.experimental.pallas")

LANES, SUBLANES = 128, 8  # of a TPU's vector registers
ROWS = 16  # of a tile of bfloat16
# The compiler of jax 0.7.2 swaps rows and heads in 32 bits only, that of 0.10 in bfloat16 too, in
# 6 % fewer instructions forward and 25 % backward; those between them were not tried.
SWAPS_HALVES = jax.__version_info__ >= (0, 10)


class Lying(NamedTuple):
    """How an array (B, N, heads, X) lies in memory: which axis stands where.

    XLA gives its arguments the layout with the least padding of 8 x 128 tiles; taken as it lies,
    no array is copied.
    """

    axes: tuple[int, int, int, int]

    @classmethod
    def of(cls, heads: int, X: int) -> Lying:
        """That of an array of so many heads of this size."""
        if X % LANES:
            return cls((0, 2, 3, 1))
        return cls((0, 1, 2, 3) if heads % SUBLANES == 0 else (0, 2, 1, 3))

    @property
    def features(self) -> int:
        """The axis of X in the matrix of one head; that of N is the other."""
        return 0 if self.axes[3] == 1 else 1

    def out(self, x: Array) -> Array:
        """(B, N, heads, X) seen as it lies."""
        return x.transpose(self.axes)

    def back(self, x: Array) -> Array:
        """What lies so seen as (B, N, heads, X)."""
        return x.transpose([self.axes.index(axis) for axis in range(4)])

    def shape(self, *shape: Any) -> tuple[Any, ...]:
        """Of (B, N, heads, X), as it lies."""
        return tuple(shape[axis] for axis in self.axes)

    def heads(self, x: Array) -> Array:
        """One example as it lies: matrices (heads, N, X) or (heads, X, N)."""
        if self.axes[1] != 1:
            return x
        if SWAPS_HALVES:
            return x.swapaxes(0, 1)
        return x.astype(jnp.float32).swapaxes(0, 1).astype(x.dtype)

    def store(self, ref: Any, matrices: list[Array]) -> None:
        """Matrices (X, n) of each head to a block of n or more."""
        if self.features == 0:
            n = matrices[0].shape[1]
            for h, x in enumerate(matrices):
                ref[0, h, :, :n] = x.astype(ref.dtype)
        else:
            ref[0] = self.heads(jnp.stack([x.T.astype(ref.dtype) for x in matrices]))


@dataclasses.dataclass(frozen=True)
class Step:
    """What a step is compiled for; arrays that it reads and writes are blocks in VMEM (`Ref`).

    Attributes:
      T, S: queries and keys that there are.
      queries, keys: those of a block; `keys` are all of them and what fills them up.
      heads: query heads of a block.
      group: query heads that share a key head.
      lying: how q, k, v and o lie.
    """

    T: int
    S: int
    queries: int
    keys: int
    heads: int
    group: int
    scale: float
    softcap: float | None
    lying: tuple[Lying, Lying, Lying, Lying]

    def forward(self, q, k, v, mask, o, lse, kept) -> None:
        """Writes o and lse (1, heads, queries).

        kept from one block of queries to the next: keys (heads / group, keys, D), and values turned
        (heads / group, V, keys).
        """
        keys, values = kept
        at_q, at_k, at_v, at_o = self.lying

        @pallas.when(pallas.program_id(2) == 0)
        def _():
            keys[...] = self._kept(at_k, k, mask)
            values[...] = self._kept(at_v, v, mask).swapaxes(1, 2)

        visible, qs, out = self._visible(mask), at_q.heads(q[0]), []
        for h in range(self.heads):
            s, _ = self._scores(keys[h // self.group], qs[h], visible)
            m = s.max(0, keepdims=True)
            base = m if mask is None else jnp.where(m == -jnp.inf, 0.0, m)
            p = jnp.exp(s - base)
            z = p.sum(0, keepdims=True)
            lse[0, h : h + 1] = base + jnp.log(z)  # log 0 = -inf is an empty row's lse
            part = _dot(values[h // self.group], p.astype(v.dtype), 1, 0)
            out.append(part / jnp.where(z == 0, 1.0, z))
        at_o.store(o, out)

    def backward(self, q, k, v, mask, given, gradients, kept) -> None:
        """Writes dq; dk and dv are summed over the blocks of queries and written with the last.

        given: o and do, lse and dlse (1, heads, queries); dlse may be None.
        kept: keys, values (heads / group, keys, .), keys turned, and the sums dk and dv.
        """
        (o, do, lse, dlse), (dq, dk, dv) = given, gradients
        keys, values, turned, dk_sum, dv_sum = kept
        at_q, at_k, at_v, at_o = self.lying

        @pallas.when(pallas.program_id(2) == 0)
        def _():
            keys[...], values[...] = self._kept(at_k, k, mask), self._kept(at_v, v, mask)
            turned[...] = keys[...].swapaxes(1, 2)
            dk_sum[...], dv_sum[...] = jnp.zeros_like(dk_sum), jnp.zeros_like(dv_sum)

        visible, out = self._visible(mask), []
        rows, read = lse[0], self._read(lse[0], mask)
        rows = rows if read is None else jnp.where(read, rows, 0.0)
        qs, dos, os = at_q.heads(q[0]), at_o.heads(do[0]), at_o.heads(o[0])
        for h in range(self.heads):
            kh, qh, doh = h // self.group, qs[h], dos[h]
            delta = doh.astype(jnp.float32) * os[h].astype(jnp.float32)
            delta = (delta.T if at_o.features else delta).sum(0, keepdims=True)
            if dlse is not None:
                delta = delta - dlse[0, h : h + 1]
            if read is not None:
                some = read[h : h + 1]
                qh, doh = _only(some, qh, at_q.features), _only(some, doh, at_o.features)
                delta = jnp.where(some, delta, 0.0)
            s, slope = self._scores(keys[kh], qh, visible)
            p = jnp.exp(s - rows[h : h + 1])
            dv_sum[kh] += _dot(p.astype(doh.dtype), doh, 1, 1 - at_o.features)
            ds = p * (_dot(values[kh], doh, 1, at_o.features) - delta)
            ds = (ds if slope is None else ds * slope).astype(qh.dtype)
            dk_sum[kh] += _dot(ds, qh, 1, 1 - at_q.features)
            out.append(_dot(turned[kh], ds, 1, 0) * self.scale)
        at_q.store(dq, out)

        @pallas.when(pallas.program_id(2) == pallas.num_programs(2) - 1)
        def _():
            at_k.store(dk, [x.T * self.scale for x in dk_sum[...]])
            at_v.store(dv, [x.T for x in dv_sum[...]])

    def _kept(self, at: Lying, x: Any, mask: Any) -> Array:
        """(heads, keys, X): what nobody sees and what fills up becomes 0, since it may be NaN."""
        x = at.heads(x[0])
        x = x if at.features else x.swapaxes(1, 2)[:, : self.keys]
        if mask is not None:
            return jnp.where(mask.columns[0, :, :1] > 0, x, 0)
        if self.keys == self.S:
            return x
        return jnp.where(jax.lax.broadcasted_iota(jnp.int32, (self.keys, 1), 0) < self.S, x, 0)

    def _visible(self, mask: Any) -> Array | None:
        """Booleans (keys, queries), None where all are."""
        shape = self.keys, self.queries
        j = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
        if mask is None:
            return None if self.keys == self.S else j < self.S
        rows, columns = mask.rows[0], mask.columns[0]
        visible = (rows[0:1] <= j) & (j <= rows[1:2])
        for n in range(rows.shape[0] - 2):
            x, at = rows[n + 2 : n + 3], 2 * n + 1
            visible &= (columns[:, at : at + 1] <= x) & (x <= columns[:, at + 1 : at + 2])
        if mask.pairs is None:
            return visible
        return visible & (mask.pairs[0, 0].astype(jnp.float32).T[: self.keys] > 0)

    def _scores(self, k: Array, q: Array, visible: Array | None) -> tuple[Array, Array | None]:
        """(keys, queries), -inf where invisible, and the slope of the soft-cap."""
        s, slope = _dot(k, q, 1, self.lying[0].features) * self.scale, None
        if self.softcap is not None:
            capped = jnp.tanh(s / self.softcap)
            s, slope = self.softcap * capped, 1 - capped * capped
        return (s if visible is None else jnp.where(visible, s, -jnp.inf)), slope

    def _read(self, lse: Array, mask: Any) -> Array | None:
        """Booleans (heads, queries): queries that there are and that see a key; None: all."""
        if mask is None and self.T % self.queries == 0:
            return None
        i = jax.lax.broadcasted_iota(jnp.int32, lse.shape, 1)
        left = self.T - pallas.program_id(2) * self.queries
        return (i < left) & (lse != -jnp.inf)


def _only(some: Array, x: Array, features: int) -> Array:
    """x with 0 for queries that are not among `some` (1, queries)."""
    column = some.astype(jnp.float32).T > 0 if features else some
    return jnp.where(column, x, 0)


def _dot(a: Array, b: Array, i: int, j: int) -> Array:
    """Contract axis i of a with axis j of b, exactly, into float32."""
    exact = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    axes = (((i,), (j,)), ((), ()))
    return jax.lax.dot_general(a, b, axes, exact, preferred_element_type=jnp.float32)
