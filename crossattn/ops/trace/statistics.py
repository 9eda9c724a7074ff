"""Sums over the keys of what an attention looked at: one pass over blocks, no T x S array.

With the log-sum-exp of a query's scores known, one pass is enough: blocks of queries times blocks
of keys make e = exp(x) with x = score - shift, and their sums make every statistic. The shift may
be any number near the log-sum-exp, since it cancels: a weight is e / sum(e), the entropy is
log sum(e) - sum(e x) / sum(e). So its rounding, coarse where the logits are far from 0, does no
harm, and no gradient flows through it.

The sums have their own backward, which makes the blocks again instead of keeping them (as Dao et
al. 2022, "FlashAttention", does for the output). Second derivatives are those of the dense formula.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.blockwise.filling import Filling
from crossattn.ops.kernels.blockwise.tiles import Grid, Tile, over_queries
from crossattn.ops.masks.mask import Mask
from crossattn.ops.reference import precision, scores
from crossattn.ops.sizes import all_known
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
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array, Float

__all__ = ["Sums", "sums"]


# jit so that a call outside of one compiles once, not operation by operation; inlined within one.
@partial(jax.jit, static_argnames=("scale", "softcap", "parts", "blocks"), inline=True)
def sums(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    mask: Mask,
    bias: Float[Array, "#B #H #T #S"] | None,
    shift: Float[Array, "B H T"],
    columns: Float[Array, "B S R"] | None,
    *,
    scale: float,
    softcap: float | None,
    parts: tuple[str, ...] = Sums._fields,
    blocks: BlockSizes | None = None,
) -> Sums:
    """The sums of every query, in float32 (float64 for float64), and of `columns` if given.

    `shift` must be near the log-sum-exp of the visible scores (-inf or anything finite where there
    are none), and what is made of the sums must not depend on it. `parts` names what is asked for:
    "mean" and "entropy" together, "top" and "at" too. Differentiable in q, k, bias and columns, in
    reverse mode, twice. `blocks` are chosen by platform and shape if None.
    """
    (B, T, H, _), (_, S, K, _) = q.shape, k.shape
    inputs = (q, k, bias, jax.lax.stop_gradient(shift), columns)
    q, k, bias, shift, columns = varying_like(inputs, inputs, mask)
    if 0 in (B, T, H, S):
        return zeros(parts, shift, columns)
    if blocks is None and not all_known(B, T, S):
        blocks = BlockSizes.for_any_size(B, T, S, K)
    if blocks is None:
        plan = _for_cpu(B, T, S, H, K, mask.local), _for_accelerator(B, T, S, H, K)
    else:
        plan = (blocks.fitted(B, T, S, K),) * 2
    to = Filling.of(T, S, plan[0])
    mask, bias = to.mask(mask, B), to.pairs(bias)
    q, k, columns, shift = (
        to.queries(q),
        to.keys(k),
        to.keys(columns),
        to.queries(shift, 2, -jnp.inf),
    )
    if "visible" not in parts or mask.terms or bias is not None:
        found = _sums(_Call(scale, softcap, parts, plan), q, k, mask, bias, shift, columns)
        return jax.tree.map(lambda x: to.cut_queries(x, 2), found)
    # Nothing is hidden: no count is carried.
    rest = tuple(part for part in parts if part != "visible")
    found = _sums(_Call(scale, softcap, rest, plan), q, k, mask, bias, shift, columns)
    return found._replace(visible=varying_like(jnp.full(shift.shape, S, jnp.int32), shift))


@dataclasses.dataclass(frozen=True)
class _Call:
    """What is static of a call; `plan` are its blocks on a CPU and elsewhere."""

    scale: float
    softcap: float | None
    parts: tuple[str, ...]
    plan: tuple[BlockSizes, BlockSizes]

    def lowered(self, run: Any, *arrays: Any) -> Any:
        """`run` with the blocks of the platform that is compiled for."""
        cpu, other = (partial(run, self, blocks) for blocks in self.plan)
        if self.plan[0] == self.plan[1]:
            return cpu(*arrays)
        return jax.lax.platform_dependent(*arrays, cpu=cpu, default=other)

    def read(self, *tile: Any) -> ScoreBlock:
        """A block, see `statistics_block.read`."""
        return read_block(*tile, scale=self.scale, softcap=self.softcap)


def _for_cpu(B: int, T: int, S: int, H: int, K: int, local: bool) -> BlockSizes:
    """As for the attention, but jax 0.7.2 sums a block number by number: 4096 cost a digit."""
    blocks = BlockSizes.for_cpu(B, T, S, H, K, local)
    return dataclasses.replace(blocks, keys=min(blocks.keys, 512))


def _for_accelerator(B: int, T: int, S: int, H: int, K: int) -> BlockSizes:
    """Wide blocks, few trips of the loops: all maps at once, of which 2^22 scores are 16 MiB."""
    queries = min(T, 256 if S > 256 else 4096)
    keys = 2**22 // (B * H * queries) // 128 * 128
    return BlockSizes(B, K, queries, min(S, max(keys, 128), 4096))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sums(call: _Call, q, k, mask, bias, shift, columns) -> Sums:
    return call.lowered(_forward_pass, (q, k, mask, bias, shift, columns))


def _forward(call, *primals):
    inputs = jax.tree.map(lambda x: x.value, primals, is_leaf=lambda x: hasattr(x, "perturbed"))
    # The custom rule itself is called, not its body, so that second derivatives use it too.
    out = _sums(call, *inputs)
    return out, (inputs, out.at, out.mean, out.entropy)


def _backward(call, residuals, cotangents: Sums):
    (*inputs, columns), at, *means = residuals
    asked = Sums(*(None if isinstance(g, SymbolicZero) else g for g in cotangents))
    asked = asked._replace(mean=None, visible=None, at=None)
    # What only serves what is not asked for is not read again.
    columns = None if asked.columns is None else columns
    at, means = None if asked.top is None else at, None if asked.entropy is None else means
    dq, dk, dbias, dcolumns = _gradients(call, *inputs, columns, at, means, asked)
    return dq, dk, None, dbias, None, dcolumns


_sums.defvjp(_forward, _backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(call: _Call, q, k, mask, bias, shift, columns, at, means, asked: Sums):
    mean = None
    if means is not None:
        mean, entropy = means
        # By which e (x - mean) is multiplied; the sum of both is the logarithm of the total.
        asked = asked._replace(entropy=-asked.entropy * jnp.exp(-(mean + entropy)))
    return call.lowered(_backward_pass, (q, k, mask, bias, shift, columns), at, mean, asked)


def _gradients_forward(call, *inputs):
    return _gradients(call, *inputs), inputs


def _gradients_backward(call, residuals, cotangents):
    q, k, mask, bias, shift, columns, at, _, asked = residuals

    def gradients(asked, *inputs):
        return jax.vjp(partial(_dense, call, mask, shift, at, asked), *inputs)[1](asked)

    _, pull = jax.vjp(gradients, asked, q, k, bias, columns)
    dasked, dq, dk, dbias, dcolumns = pull(cotangents)
    # Place and means are what the dense formula makes anew.
    return dq, dk, None, dbias, None, dcolumns, None, None, dasked


_gradients.defvjp(_gradients_forward, _gradients_backward)


def _dense(call: _Call, mask: Mask, shift, at, asked: Sums, q, k, bias, columns) -> Sums:
    """What can be differentiated of the sums, and is asked for, from T x S arrays."""
    (B, T, _, _), S = q.shape, k.shape[1]
    s, visible = scores(q, k, mask.visible(B, T, S), bias, call.scale, call.softcap)
    x = jnp.where(visible, s - shift_or_zero(shift)[..., None], 0)
    e = jnp.where(visible, jnp.exp(x), 0)
    top = None if at is None else jnp.take_along_axis(x, at[..., None], 3)[..., 0]
    if columns is not None:
        columns = jnp.where(visible.any((1, 2))[..., None], columns, 0)
        columns = matmul(e, jnp.broadcast_to(columns[:, None], (B, e.shape[1], *columns.shape[1:])))
    found = Sums(e.sum(3), (e * x).sum(3), None, top, columns, None, None)
    return finished(found, [n for n, g in asked._asdict().items() if g is not None])


def _forward_pass(call: _Call, blocks: BlockSizes, inputs: tuple[Any, ...]) -> Sums:
    q, k, mask, bias, shift, columns = inputs
    grid = Grid.of(q, k, k, mask, bias, blocks)

    def queries(tile: Tile, results: Sums) -> Sums:
        qb, base = tile.queries(q), shift_or_zero(tile.rows(shift))

        def keys(tile: Tile, masked: bool, now: Sums) -> Sums:
            return added(now, call.read(tile, masked, qb, base, columns))

        start = zeros({"total", *call.parts} - {"entropy"}, base, columns)
        new = finished(tile.over_keys(keys, grid.alike(start)), call.parts)
        rows = (
            None if n is None else (tile.write_rows if n.ndim == 3 else tile.write_queries)(o, n)
            for o, n in zip(results, new, strict=True)
        )
        return Sums(*rows)

    # Columns are written as queries are, heads second.
    start = zeros(call.parts, shift, columns)
    if columns is not None:
        start = start._replace(columns=start.columns.swapaxes(1, 2))
    out = over_queries(grid, queries, grid.alike(start))
    return out if columns is None else out._replace(columns=out.columns.swapaxes(1, 2))


def _backward_pass(call: _Call, blocks: BlockSizes, inputs: tuple[Any, ...], at, mean, asked: Sums):
    q, k, mask, bias, shift, columns = inputs
    grid, dtype = Grid.of(q, k, k, mask, bias, blocks), precision(q.dtype)
    if columns is not None:
        asked = asked._replace(columns=asked.columns.swapaxes(1, 2))

    def queries(tile: Tile, results):
        qb, base = tile.queries(q), shift_or_zero(tile.rows(shift))
        wanted = _Asked.of(tile, asked, at, mean)

        def keys(tile: Tile, masked: bool, now):
            block = call.read(tile, masked, qb, base, columns)
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
