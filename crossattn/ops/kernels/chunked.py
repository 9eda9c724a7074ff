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

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.blockwise.products import dot, inner
from crossattn.ops.kernels.blockwise.tiles import Grid, Tile
from crossattn.ops.masks.mask import Mask
from crossattn.ops.reference import precision
from crossattn.shapes import Array, Float

__all__ = ["backward", "block_scores", "forward", "gradients"]


# jit so that a call outside of one compiles once, not operation by operation; inlined within one.
@partial(jax.jit, static_argnames=("scale", "softcap", "blocks"), inline=True)
def forward(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    bias: Float[Array, "#B #H #T #S"] | None,
    scale: float,
    softcap: float | None,
    blocks: BlockSizes,
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """(o in v.dtype, lse in float32 or float64)."""
    (B, T, H, _), V = q.shape, v.shape[3]
    grid = Grid.of(q, k, v, mask, bias, blocks)
    of_scores = partial(block_scores, scale=scale, softcap=softcap)

    def queries(tile: Tile, results):
        qb = tile.queries(q)

        def keys(tile: Tile, masked: bool, carry):
            m_old, z, o = carry
            kb, vb = tile.keys(k), tile.keys(v)
            visible, added = tile.pairs(bias) if masked else (None, None)
            if visible is not None:
                seen = tile.seen_keys(visible)
                kb, vb = jnp.where(seen, kb, 0), jnp.where(seen, vb, 0)
            s, _ = of_scores(dot(qb, kb, 3, 3), visible, added)
            m = jnp.maximum(m_old, s.max(3, keepdims=True))
            base = jnp.where(m == -jnp.inf, 0, m) if masked else m
            p, shrink = jnp.exp(s - base), jnp.exp(m_old - base)
            z = z * shrink + p.sum(3, keepdims=True)
            return m, z, o * shrink + dot(p.astype(vb.dtype), vb, 3, 2)

        shape, dtype = qb.shape[:3], precision(q.dtype)
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

    results = jnp.zeros((B, T, H, V), v.dtype), jnp.zeros((B, H, T), precision(q.dtype))
    return grid.over_queries(queries, grid.alike(results))


@partial(jax.jit, static_argnames=("scale", "softcap", "blocks"), inline=True)
def backward(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    bias: Float[Array, "#B #H #T #S"] | None,
    scale: float,
    softcap: float | None,
    o: Float[Array, "B T H V"],
    lse: Float[Array, "B H T"],
    do: Float[Array, "B T H V"],
    dlse: Float[Array, "B H T"] | None,
    blocks: BlockSizes,
    onto: tuple[Array | None, Array | None] = (None, None),
) -> tuple[Array, Array, Array, Array | None]:
    """(dq, dk, dv, dbias | None) for the global o and lse; dq and dk are summed `onto` arrays."""
    grid = Grid.of(q, k, v, mask, bias, blocks)
    dtype = precision(q.dtype)
    of_scores = partial(block_scores, scale=scale, softcap=softcap)

    def queries(tile: Tile, results):
        qb, dob = tile.queries(q), tile.queries(do)
        lse_row = tile.rows(lse)[:, :, None]
        empty = lse_row == -jnp.inf
        delta_row = inner(dob, tile.queries(o))
        delta_row = delta_row if dlse is None else delta_row - tile.rows(dlse)
        safe_lse, delta_row = (jnp.where(empty, 0, x) for x in (lse_row, delta_row[:, :, None]))

        def keys(tile: Tile, masked: bool, carry):
            dq, dk, dv, dbias = carry
            kb, vb, qs, dos = tile.keys(k), tile.keys(v), qb, dob
            visible, added = tile.pairs(bias) if masked else (None, None)
            if visible is not None:
                seen, read = tile.seen_keys(visible), ~empty.swapaxes(2, 3)
                kb, vb = jnp.where(seen, kb, 0), jnp.where(seen, vb, 0)
                qs, dos = jnp.where(read, qb, 0), jnp.where(read, dob, 0)
                visible, added = (None if x is None else x.swapaxes(2, 3) for x in (visible, added))
            # Keys first from here on: (.., keys, queries).
            s, slope = of_scores(dot(kb, qs, 3, 3), visible, added)
            p = jnp.exp(s - safe_lse)
            ds = p * (dot(vb, dos, 3, 3) - delta_row)
            dv = tile.add_keys(dv, dot(p.astype(dos.dtype), dos, 3, 2))
            if dbias is not None:
                dbias = tile.add_pairs(dbias, ds.swapaxes(2, 3))
            ds = ((ds if slope is None else ds * slope) * scale).astype(qs.dtype)
            dk = tile.add_keys(dk, dot(ds, qs, 3, 2), onto[1] is not None)
            return dq + dot(ds.swapaxes(2, 3), kb, 3, 2), dk, dv, dbias

        dq_all, *sums = results
        dq, *sums = tile.over_keys(keys, (grid.alike(jnp.zeros(qb.shape, dtype)), *sums))
        return (tile.write_queries(dq_all, dq, onto[0] is not None), *sums)

    return gradients(grid, queries, onto)


def gradients(
    grid: Grid,
    queries: Callable[[Tile, Any], Any],
    onto: tuple[Array | None, Array | None],
) -> tuple[Array, Array, Array, Array | None]:
    """(dq, dk, dv, dbias | None) that `queries` sums up, tile by tile, `onto` arrays or zeros."""
    q, k, v, _, bias = grid.inputs
    first = lambda x, dtype, start=None: (
        jnp.zeros(x.shape, dtype) if start is None else start.astype(dtype)
    )
    results = (
        first(q, q.dtype, onto[0]),
        first(k, grid.sum_dtype(k.dtype), onto[1]),
        first(v, grid.sum_dtype(v.dtype)),
        None if bias is None else first(bias, precision(q.dtype)),
    )
    dq, dk, dv, dbias = grid.over_queries(queries, grid.alike(results))
    return (
        dq,
        dk.astype(k.dtype),
        dv.astype(v.dtype),
        None if bias is None else dbias.astype(bias.dtype),
    )


def block_scores(
    s: Array, visible: Array | None, bias: Array | None, *, scale: float, softcap: float | None
) -> tuple[Array, Array | None]:
    """Scores, -inf where invisible, and the slope of the soft-cap (None without one)."""
    s, slope = s * scale, None
    if softcap is not None:
        capped = jnp.tanh(s / softcap)
        s, slope = softcap * capped, 1 - capped * capped
    if bias is not None:
        s = s + bias.astype(s.dtype)
    return (s if visible is None else jnp.where(visible, s, -jnp.inf)), slope
