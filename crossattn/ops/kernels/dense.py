"""Dense attention in plain XLA operations, with its own backward.

Backward recomputes the weights from the global lse (Dao et al. 2022, "FlashAttention", appendix B):
no T x S array is kept between forward and backward, though each of them makes one in passing.

Half precision is cast to float32 before every product: XLA's CPU refuses some bfloat16 products
with float32 results at run time (jax 0.7.2) and float16 ones under jit, and one rule for all
platforms keeps the result independent of where it is lowered.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.dropout import kept
from crossattn.ops.kernels.blockwise.products import dot, inner, masked_scores
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
from crossattn.ops.reference import precision
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = ["KERNEL"]

# Up to so many weights of a head and example their transpose is written out, or XLA contracts over
# rows after all: (256, 8, 16, 4, 16) with gradients took 1.11 of jax.nn's time, and takes 0.74;
# (64, 16, 49, 4, 32) 0.73 and 0.67. Where products are large it is 2 to 7 % slower.
SMALL = 2**10


class _Seen(NamedTuple):
    """What the mask and a bias of -inf leave visible; every array broadcasts, heads first."""

    pairs: Array  # (B|1, H|1, T|1, S|1)
    queries: Array  # (B|1, H|1, T|1, 1)
    keys: Array  # (B|1, K|1, S|1, 1)


@dataclasses.dataclass(frozen=True)
class DenseKernel(Kernel):
    """Takes any call."""

    name = "xla"
    summary = "dense, plain XLA operations; any call"
    any_size = True
    undropped = None

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        seen = _seen(call)
        qh, kh, vh = _heads_first(call, seen)
        s, _ = _scores(qh, kh, call, seen)
        m = s.max(3, keepdims=True, initial=-jnp.inf)
        if seen is not None or kh.shape[2] == 0:
            m = jnp.where(m == -jnp.inf, 0, m)
        p = jnp.exp(s - m)
        z = p.sum(3, keepdims=True)
        lse = (m + jnp.log(z))[..., 0]  # log 0 = -inf is an empty row's lse
        keep = kept(call.dropout, s.shape, s.dtype)
        o = _values(p if keep is None else p * keep, vh) / jnp.where(z == 0, 1, z)
        return o.swapaxes(1, 2).astype(call.v.dtype), lse

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        """(dq, dk, dv, dbias | None) for the lse of these keys and the cotangents of o and lse.

        It needs no `o`: where all keys are at hand, p dp sums to what o do does, without reading
        two arrays of queries, and took 0.6 to 0.9 of the time on a CPU.
        """
        bias, scale, lse, dlse = call.bias, call.scale, given.lse, given.dlse
        seen = _seen(call)
        qh, kh, vh = _heads_first(call, seen)
        s, slope = _scores(qh, kh, call, seen)
        do = given.do.swapaxes(1, 2).astype(s.dtype)
        if seen is not None or kh.shape[2] == 0:
            valid = lse != -jnp.inf
            do = jnp.where(valid[..., None], do, 0)
            dlse = None if dlse is None else jnp.where(valid, dlse, 0)
            lse = jnp.where(valid, lse, 0)
        p, dp = jnp.exp(s - lse[..., None]), _scores_of(do, vh)
        keep = kept(call.dropout, s.shape, s.dtype)
        dv = _per_key(p if keep is None else p * keep, do, vh.shape[1])
        dp = dp if keep is None else dp * keep
        delta = inner(p, dp)
        delta = delta if dlse is None else delta - dlse
        ds = p * (dp - delta[..., None])
        dbias = None if bias is None else _sum_to(ds, bias.shape).astype(bias.dtype)
        ds = (ds if slope is None else ds * slope) * scale
        dq, dk = _values(ds, kh), _per_key(ds, qh, kh.shape[1])
        pairs = (dq, call.q), (dk, call.k), (dv, call.v)
        dq, dk, dv = (g.swapaxes(1, 2).astype(x.dtype) for g, x in pairs)
        return dq, dk, dv, dbias


KERNEL = DenseKernel()


def _seen(call: AttentionCall) -> _Seen | None:
    """None where everything is visible."""
    (B, T, S, H, K), bias = call.sizes, call.bias
    if not call.mask.terms and bias is None:
        return None
    pairs = call.mask.visible(B, T, S)
    if bias is not None:
        pairs = pairs & (bias != -jnp.inf)
    keys = pairs.any(2)
    if keys.shape[1] > 1:
        keys = keys.reshape(keys.shape[0], K, H // K, keys.shape[2]).any(2)
    return _Seen(pairs, pairs.any(3, keepdims=True), keys[..., None])


def _heads_first(call: AttentionCall, seen: _Seen | None) -> tuple[Array, Array, Array]:
    """(B,H,T,D), (B,K,S,D), (B,K,S,V): one transpose each, then plain batched products.

    What nobody sees becomes 0 here: it may hold NaN, and 0 * NaN is NaN.
    """
    dtype = precision(call.q.dtype)
    q, k, v = (x.swapaxes(1, 2).astype(dtype) for x in (call.q, call.k, call.v))
    if seen is None:
        return q, k, v
    return jnp.where(seen.queries, q, 0), jnp.where(seen.keys, k, 0), jnp.where(seen.keys, v, 0)


def _scores(q: Array, k: Array, call: AttentionCall, seen: _Seen | None) -> tuple[Array, Any]:
    """Scores (B,H,T,S), -inf where invisible, and the slope of the soft-cap (None without one)."""
    visible = None if seen is None else seen.pairs
    return masked_scores(_scores_of(q, k), visible, call.bias, call.scale, call.softcap)


def _grouped(x: Array, K: int) -> Array:
    """(B,H,T,X) -> (B,K,H/K*T,X): query heads that share a key head are rows of one product."""
    B, H, T, X = x.shape
    return x.reshape(B, K, H // K * T, X)


def _scores_of(x, k):
    B, H, T, _ = x.shape
    return dot(_grouped(x, k.shape[1]), k, 3, 3).reshape(B, H, T, k.shape[2])


def _values(p, v):
    B, H, T, _ = p.shape
    return dot(_grouped(p, v.shape[1]), v, 3, 2).reshape(B, H, T, v.shape[3])


def _per_key(p, x, K: int):
    # XLA's CPU takes (rows, inner) x (inner, columns) fastest: written so, forward and backward at
    # (B, T, S, H, D) = (64, 16, 16, 4, 16) took 0.75 of the time of contracting both over rows.
    p = _grouped(p, K).swapaxes(2, 3)
    if all_known(*p.shape) and p.shape[2] * p.shape[3] <= SMALL:
        p = jax.lax.optimization_barrier(p)
    return dot(p, _grouped(x, K), 3, 2)


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    axes = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return x.sum(axes, keepdims=True)
