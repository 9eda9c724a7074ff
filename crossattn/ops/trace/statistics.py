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
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks.mask import Mask
from crossattn.ops.reference import scores
from crossattn.ops.sizes import all_known
from crossattn.ops.trace.passes import backward_pass, forward_pass
from crossattn.ops.trace.statistics_block import (
    Sums,
    finished,
    matmul,
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
    call = to.call(AttentionCall(q, k, None, mask, bias, None, scale, softcap))
    shift, columns = to.queries(shift, 2, -jnp.inf), to.keys(columns)
    if "visible" not in parts or call.mask.terms or bias is not None:
        found = _sums(_Static(parts, plan), call, shift, columns)
        return jax.tree.map(lambda x: to.cut_queries(x, 2), found)
    # Nothing is hidden: no count is carried.
    rest = tuple(part for part in parts if part != "visible")
    found = _sums(_Static(rest, plan), call, shift, columns)
    return found._replace(visible=varying_like(jnp.full(shift.shape, S, jnp.int32), shift))


class _Static(NamedTuple):
    """What is compiled in; `plan` are the blocks on a CPU and elsewhere."""

    parts: tuple[str, ...]
    plan: tuple[BlockSizes, BlockSizes]

    def lowered(self, run: Any, *arrays: Any) -> Any:
        """`run` with the blocks of the platform that is compiled for."""
        cpu, other = (partial(run, blocks) for blocks in self.plan)
        if self.plan[0] == self.plan[1]:
            return cpu(*arrays)
        return jax.lax.platform_dependent(*arrays, cpu=cpu, default=other)


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
def _sums(static: _Static, call: AttentionCall, shift: Array, columns: Any) -> Sums:
    run = lambda blocks, *arrays: forward_pass(blocks, static.parts, *arrays)
    return static.lowered(run, call, shift, columns)


def _forward(static, *primals):
    inputs = jax.tree.map(lambda x: x.value, primals, is_leaf=lambda x: hasattr(x, "perturbed"))
    # The custom rule itself is called, not its body, so that second derivatives use it too.
    out = _sums(static, *inputs)
    return out, (inputs, out.at, out.mean, out.entropy)


def _backward(static, residuals, cotangents: Sums):
    (call, shift, columns), at, *means = residuals
    asked = Sums(*(None if isinstance(g, SymbolicZero) else g for g in cotangents))
    asked = asked._replace(mean=None, visible=None, at=None)
    # What only serves what is not asked for is not read again.
    columns = None if asked.columns is None else columns
    at, means = None if asked.top is None else at, None if asked.entropy is None else means
    *dcall, dcolumns = _gradients(static, call, shift, columns, at, means, asked)
    return _cotangent(call, *dcall), None, dcolumns


def _cotangent(call, dq, dk, dbias):
    return dataclasses.replace(call, q=dq, k=dk, mask=None, bias=dbias)


_sums.defvjp(_forward, _backward, symbolic_zeros=True)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(static: _Static, call, shift, columns, at, means, asked: Sums):
    mean = None
    if means is not None:
        mean, entropy = means
        # By which e (x - mean) is multiplied; the sum of both is the logarithm of the total.
        asked = asked._replace(entropy=-asked.entropy * jnp.exp(-(mean + entropy)))
    return static.lowered(backward_pass, call, shift, columns, at, mean, asked)


def _gradients_forward(static, *inputs):
    return _gradients(static, *inputs), inputs


def _gradients_backward(static, residuals, cotangents):
    call, shift, columns, at, _, asked = residuals

    def gradients(asked, *inputs):
        return jax.vjp(partial(_dense, call, shift, at, asked), *inputs)[1](asked)

    _, pull = jax.vjp(gradients, asked, call.q, call.k, call.bias, columns)
    dasked, *dcall, dcolumns = pull(cotangents)
    # Place and means are what the dense formula makes anew.
    return _cotangent(call, *dcall), None, dcolumns, None, None, dasked


_gradients.defvjp(_gradients_forward, _gradients_backward)


def _dense(call: AttentionCall, shift, at, asked: Sums, q, k, bias, columns) -> Sums:
    """What can be differentiated of the sums, and is asked for, from T x S arrays."""
    B, T, S, *_ = call.sizes
    s, visible = scores(q, k, call.mask.visible(B, T, S), bias, call.scale, call.softcap)
    x = jnp.where(visible, s - shift_or_zero(shift)[..., None], 0)
    e = jnp.where(visible, jnp.exp(x), 0)
    top = None if at is None else jnp.take_along_axis(x, at[..., None], 3)[..., 0]
    if columns is not None:
        columns = jnp.where(visible.any((1, 2))[..., None], columns, 0)
        columns = matmul(e, jnp.broadcast_to(columns[:, None], (B, e.shape[1], *columns.shape[1:])))
    found = Sums(e.sum(3), (e * x).sum(3), None, top, columns, None, None)
    return finished(found, [n for n, g in asked._asdict().items() if g is not None])
