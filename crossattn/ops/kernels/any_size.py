"""Attention of sizes that are not known: one program, made by `jax.export`, for any B, T and S.

Queries and keys are filled up to whole blocks, of which `chunked` then takes any number: no T x S
array, at the price of one copy of each input. Where few scores turn out to be made, filling costs
more than it saves, so `either` decides when the program runs; where sizes are put in before it is
compiled for good, as `Exported.call` does, XLA keeps one of the two.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked, dense
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.blockwise.filling import Filling
from crossattn.ops.masks.mask import Mask
from crossattn.shapes import Array

__all__ = ["either_backward", "either_forward", "forward"]

FEW = 2**20  # scores that a dense implementation may make


def forward(
    q, k, v, mask: Mask, bias, scale, softcap, *, blocks: BlockSizes
) -> tuple[Array, Array]:
    """The kernel contract: (o, lse)."""
    to = Filling.of(q.shape[1], k.shape[1], blocks)
    mask, bias = to.mask(mask, q.shape[0]), to.pairs(bias)
    call = to.queries(q), to.keys(k), to.keys(v), mask, bias
    o, lse = chunked.forward(*call, scale, softcap, blocks=blocks)
    return o[:, : to.T], to.cut(lse)


def backward(q, k, v, mask: Mask, bias, scale, softcap, o, lse, do, dlse, *, blocks: BlockSizes):
    """The kernel contract: (dq, dk, dv, dbias)."""
    to = Filling.of(q.shape[1], k.shape[1], blocks)
    mask, bias = to.mask(mask, q.shape[0]), to.pairs(bias)
    call = to.queries(q), to.keys(k), to.keys(v), mask, bias
    results = to.queries(o), to.queries(lse, 2, -jnp.inf), to.queries(do), to.queries(dlse, 2)
    dq, dk, dv, dbias = chunked.backward(*call, scale, softcap, *results, blocks=blocks)
    return dq[:, : to.T], dk[:, : to.S], dv[:, : to.S], to.cut_pairs(dbias)


def either_forward(q, k, v, mask: Mask, bias, scale, softcap) -> tuple[Array, Array]:
    """The kernel contract, dense or in blocks."""
    blocks = BlockSizes.for_any_size(*q.shape[:2], *k.shape[1:3])
    whole, cut = dense.forward, partial(forward, blocks=blocks)
    return _either(whole, cut, (q, k, v, mask, bias), scale, softcap)


def either_backward(q, k, v, mask: Mask, bias, scale, softcap, *results):
    """The kernel contract, dense or in blocks."""
    blocks = BlockSizes.for_any_size(*q.shape[:2], *k.shape[1:3])
    whole, cut = dense.backward, partial(backward, blocks=blocks)
    return _either(whole, cut, (q, k, v, mask, bias), scale, softcap, *results)


def _either(whole: Any, cut: Any, inputs: tuple[Any, ...], scale, softcap, *results) -> Any:
    (B, T, H, _), S = inputs[0].shape, inputs[1].shape[1]
    # In float32, since the product of what int32 holds need not be.
    few = math.prod(jnp.asarray(n).astype(jnp.float32) for n in (B, H, T, S)) <= FEW
    whole, cut = (
        lambda inputs, results, run=run: run(*inputs, scale, softcap, *results)
        for run in (whole, cut)
    )
    return jax.lax.cond(few, whole, cut, inputs, results)
