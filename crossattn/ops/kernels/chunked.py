"""Attention by blocks of queries and keys: no T x S array in either direction.

Online softmax forward (Milakov & Gimelshein 2018; Rabe & Staats 2021, "Self-attention does not need
O(n^2) memory"), recomputation backward from the global lse and delta - dlse (Dao et al. 2022,
"FlashAttention", appendix B). Blocks of which nothing is visible are never visited; blocks that are
wholly visible pay for no mask.

What makes it fast on a CPU, as measured (`python -m experiments.bench attention`): scores of a
block stay in the cache; blocks are read from (B, S, K, D) as they lie and turned heads first one by
one, since a heads-first copy of a whole context costs more than it saves; backward works on scores
turned keys first, because XLA's products are half as fast where the larger side must be turned.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.blockwise.filling import Filling
from crossattn.ops.kernels.blockwise.products import dot, inner, masked_scores
from crossattn.ops.kernels.blockwise.tiles import Grid, Tile, over_queries
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["KERNEL", "ChunkedKernel", "summed"]


@dataclasses.dataclass(frozen=True)
class ChunkedKernel(Kernel):
    """Blocks are those that were given, or chosen for the platform and the sizes."""

    blocks: BlockSizes | None = None

    name = "chunked"
    summary = "blocks of queries and keys, online softmax: memory does not grow with T x S"
    any_size = True
    undropped = None
    adds = True

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        B, T, S, H, K = call.sizes
        if self.blocks is not None:
            blocks = self.blocks.fitted(B, T, S, K)
        elif not call.known:
            blocks = BlockSizes.for_any_size(B, T, S, K)
        elif platform == "cpu":
            blocks = BlockSizes.for_cpu(B, T, S, H, K, call.mask.local)
        else:
            # Halves are multiplied exactly, into sums in float32; a CPU may not know how.
            blocks = BlockSizes.for_accelerator(B, T, S, K, jnp.dtype(call.q.dtype).name)
        return dataclasses.replace(self, blocks=blocks)

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        assert self.blocks is not None
        to = Filling.of(call.T, call.S, self.blocks)
        o, lse = _forward(to.call(call), self.blocks)
        return to.cut_queries(o, 1), to.cut_queries(lse, 2)

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        assert self.blocks is not None
        to = Filling.of(call.T, call.S, self.blocks)
        o, do, dlse = to.queries(given.o), to.queries(given.do), to.queries(given.dlse, 2)
        lse = to.queries(given.lse, 2, -jnp.inf)
        given = BackwardInputs(o, lse, do, dlse, to.queries(given.dq), to.keys(given.dk))
        dq, dk, dv, dbias = _backward(to.call(call), self.blocks, given)
        dq, dk, dv = to.cut_queries(dq, 1), to.cut_keys(dk, 1), to.cut_keys(dv, 1)
        return dq, dk, dv, to.cut_pairs(dbias)


KERNEL = ChunkedKernel()


def _forward(call: AttentionCall, blocks: BlockSizes) -> tuple[Array, Array]:
    q, v = call.q, call.v
    (B, T, H, _), V, dtype = q.shape, v.shape[3], precision(q.dtype)
    grid = Grid.of(call, blocks)

    def queries(tile: Tile, results):
        qb = tile.queries(q)

        def keys(tile: Tile, masked: bool, carry):
            m_old, z, o = carry
            visible, added, kb, vb = tile.block(masked, call.k, v)
            s, _ = masked_scores(dot(qb, kb, 3, 3), visible, added, call.scale, call.softcap)
            m = jnp.maximum(m_old, s.max(3, keepdims=True))
            base = jnp.where(m == -jnp.inf, 0, m) if masked else m
            p, shrink = jnp.exp(s - base), jnp.exp(m_old - base)
            z = z * shrink + p.sum(3, keepdims=True)
            p = tile.dropped(p).astype(vb.dtype)
            return m, z, o * shrink + dot(p, vb, 3, 2)

        shape = qb.shape[:3]
        start = (
            jnp.full((*shape, 1), -jnp.inf, dtype),
            jnp.zeros((*shape, 1), dtype),
            jnp.zeros((*shape, V), dtype),
        )
        m, z, o = tile.over_keys(keys, grid.alike(start))
        o = o / jnp.where(z == 0, 1, z)
        lse = jnp.where(m == -jnp.inf, 0, m) + jnp.log(z)  # log 0 = -inf is an empty row's lse
        out, all_lse = results
        return tile.write_queries(out, o), tile.write_rows(all_lse, lse[..., 0])

    results = jnp.zeros((B, T, H, V), v.dtype), jnp.zeros((B, H, T), dtype)
    return over_queries(grid, queries, grid.alike(results))


def _backward(call: AttentionCall, blocks: BlockSizes, given: BackwardInputs) -> Gradients:
    grid, dtype = Grid.of(call, blocks), precision(call.q.dtype)

    def queries(tile: Tile, results):
        qb, dob = tile.queries(call.q), tile.queries(given.do)
        lse_row = tile.rows(given.lse)[:, :, None]
        empty = lse_row == -jnp.inf
        delta_row = inner(dob, tile.queries(given.o))
        delta_row = delta_row if given.dlse is None else delta_row - tile.rows(given.dlse)
        safe_lse, delta_row = (jnp.where(empty, 0, x) for x in (lse_row, delta_row[:, :, None]))

        def keys(tile: Tile, masked: bool, carry):
            dq, dk, dv, dbias = carry
            visible, added, kb, vb = tile.block(masked, call.k, call.v)
            qs, dos = qb, dob
            if visible is not None:
                read = ~empty.swapaxes(2, 3)
                qs, dos = jnp.where(read, qb, 0), jnp.where(read, dob, 0)
                visible, added = (None if x is None else x.swapaxes(2, 3) for x in (visible, added))
            # Keys first from here on: (.., keys, queries).
            s, slope = masked_scores(dot(kb, qs, 3, 3), visible, added, call.scale, call.softcap)
            p = jnp.exp(s - safe_lse)
            dp, stay = dot(vb, dos, 3, 3), tile.dropped(p, keys_first=True)
            ds = p * (dp - delta_row) if stay is p else stay * dp - p * delta_row
            dv = tile.add_keys(dv, dot(stay.astype(dos.dtype), dos, 3, 2))
            if dbias is not None:
                dbias = tile.add_pairs(dbias, ds.swapaxes(2, 3))
            ds = ((ds if slope is None else ds * slope) * call.scale).astype(qs.dtype)
            dk = tile.add_keys(dk, dot(ds, qs, 3, 2), given.dk is not None)
            return dq + dot(ds.swapaxes(2, 3), kb, 3, 2), dk, dv, dbias

        dq_all, *sums = results
        dq, *sums = tile.over_keys(keys, (grid.alike(jnp.zeros(qb.shape, dtype)), *sums))
        return (tile.write_queries(dq_all, dq, given.dq is not None), *sums)

    return summed(grid, queries, given)


def summed(grid: Grid, queries: Callable[[Tile, Any], Any], given: BackwardInputs) -> Gradients:
    """(dq, dk, dv, dbias | None) that `queries` sums up, tile by tile, from what is given or 0."""
    q, k, v, bias = grid.call.q, grid.call.k, grid.call.v, grid.call.bias
    first = lambda x, dtype, start=None: (
        jnp.zeros(x.shape, dtype) if start is None else start.astype(dtype)
    )
    results = (
        first(q, q.dtype, given.dq),
        first(k, grid.sum_dtype(k.dtype), given.dk),
        first(v, grid.sum_dtype(v.dtype)),
        None if bias is None else first(bias, precision(q.dtype)),
    )
    dq, dk, dv, dbias = over_queries(grid, queries, grid.alike(results))
    dbias = None if bias is None else dbias.astype(bias.dtype)
    return dq, dk.astype(k.dtype), dv.astype(v.dtype), dbias
