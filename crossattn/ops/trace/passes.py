"""The passes over blocks of queries and keys that make the sums of `statistics`, and gradients."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.blockwise.grid import Grid
from crossattn.ops.kernels.blockwise.tiles import Tile, over_queries
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.reference import precision
from crossattn.ops.trace.statistics_block import (
    ScoreBlock,
    Sums,
    added,
    finished,
    matmul,
    read_block,
    shift_or_zero,
    zeros,
)
from crossattn.shapes import Array

__all__ = ["backward_pass", "forward_pass"]


def forward_pass(
    blocks: BlockSizes, parts: tuple[str, ...], call: AttentionCall, shift: Array, columns: Any
) -> Sums:
    """The sums that `parts` names."""
    grid = Grid.of(call, blocks)

    def queries(tile: Tile, results: Sums) -> Sums:
        qb, base = tile.queries(call.q), shift_or_zero(tile.rows(shift))

        def keys(tile: Tile, masked: bool, now: Sums) -> Sums:
            return added(now, read_block(tile, masked, qb, base, columns))

        start = zeros({"total", *parts} - {"entropy"}, base, columns)
        new = finished(tile.over_keys(keys, grid.alike(start)), parts)
        rows = (
            None if n is None else (tile.write_rows if n.ndim == 3 else tile.write_queries)(o, n)
            for o, n in zip(results, new, strict=True)
        )
        return Sums(*rows)

    # Columns are written as queries are, heads second.
    out = over_queries(grid, queries, grid.alike(_turned(zeros(parts, shift, columns))))
    return _turned(out)


def backward_pass(
    blocks: BlockSizes,
    call: AttentionCall,
    shift: Array,
    columns: Any,
    at: Any,
    mean: Any,
    asked: Sums,
) -> tuple[Array, Array, Any, Any]:
    """(dq, dk, dbias, dcolumns) of the sums that are asked for."""
    q, k, bias = call.q, call.k, call.bias
    grid, dtype, asked = Grid.of(call, blocks), precision(q.dtype), _turned(asked)

    def queries(tile: Tile, results):
        qb, base = tile.queries(q), shift_or_zero(tile.rows(shift))
        wanted = _Asked.of(tile, asked, at, mean)

        def keys(tile: Tile, masked: bool, now):
            block = read_block(tile, masked, qb, base, columns)
            ds, dcolumns = _of_scores(block, wanted)
            dq, dk, dbias, dc = now
            if dbias is not None:
                dbias = tile.add_pairs(dbias, ds)
            if dc is not None:
                dc = tile.add_columns(dc, dcolumns)
            ds = (ds if block.slope is None else ds * block.slope) * call.scale
            dk = tile.add_keys(dk, matmul(ds.swapaxes(2, 3), block.q))
            return dq + matmul(ds, block.k), dk, dbias, dc

        dq_all, *rest = results
        dq, *rest = tile.over_keys(keys, (grid.alike(jnp.zeros(qb.shape, dtype)), *rest))
        return tile.write_queries(dq_all, dq), *rest

    start = (
        jnp.zeros(q.shape, q.dtype),
        jnp.zeros(k.shape, grid.sum_dtype(k.dtype)),
        None if bias is None else jnp.zeros(bias.shape, dtype),
        None if columns is None else jnp.zeros_like(columns),
    )
    dq, dk, dbias, dcolumns = over_queries(grid, queries, grid.alike(start))
    return dq, dk.astype(k.dtype), None if bias is None else dbias.astype(bias.dtype), dcolumns


def _turned(sums: Sums) -> Sums:
    """Columns (B, H, T, R) as (B, T, H, R), and back."""
    return sums if sums.columns is None else sums._replace(columns=sums.columns.swapaxes(1, 2))


class _Asked(NamedTuple):
    """What `_gradients` gets for the queries of a tile, one a row: (b, k, rows, 1 | R)."""

    total: Any
    entropy: Any
    top: Any
    columns: Any
    at: Any
    mean: Any

    @classmethod
    def of(cls, tile: Tile, asked: Sums, at: Array | None, mean: Array | None) -> _Asked:
        row = lambda x: None if x is None else tile.rows(x)[..., None]
        columns = None if asked.columns is None else tile.queries(asked.columns)
        total, entropy, top = map(row, (asked.total, asked.entropy, asked.top))
        return cls(total, entropy, top, columns, row(at), row(mean))


def _of_scores(block: ScoreBlock, asked: _Asked) -> tuple[Array, Any]:
    """Gradients with respect to the block's scores, before soft-cap and scale, and its columns."""
    x, e, dcolumns = block.x, block.e, None
    grow = 0 if asked.total is None else asked.total
    if asked.entropy is not None:
        grow = grow + asked.entropy * (x - asked.mean)
    if asked.columns is not None:
        mass = asked.columns.reshape(x.shape[0], -1, asked.columns.shape[3])
        grow = grow + matmul(mass, block.columns.swapaxes(1, 2)).reshape(x.shape)
        dcolumns = matmul(e.reshape(x.shape[0], -1, x.shape[3]).swapaxes(1, 2), mass)
    ds = e * grow
    if asked.top is not None:
        ds = ds + jnp.where(block.places == asked.at, asked.top, 0)
    return (ds if block.visible is None else jnp.where(block.visible, ds, 0)), dcolumns
