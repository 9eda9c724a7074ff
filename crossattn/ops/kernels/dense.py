"""Dense attention in plain XLA operations, with its own backward.

Backward recomputes the weights from the global lse (Dao et al. 2022, "FlashAttention", appendix B):
no T x S array is kept between forward and backward, though each of them makes one in passing.

Half precision is cast to float32 before every product: XLA's CPU refuses some bfloat16 products
with float32 results at run time (jax 0.7.2) and float16 ones under jit, and one rule for all
platforms keeps the result independent of where it is lowered.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.blockwise.products import dot, inner
from crossattn.ops.masks.mask import Mask
from crossattn.ops.reference import Dropout, kept, precision
from crossattn.shapes import Array, Float

__all__ = ["backward", "forward"]


class _Seen(NamedTuple):
    """What the mask and a bias of -inf leave visible; every array broadcasts, heads first."""

    pairs: Array  # (B|1, H|1, T|1, S|1)
    queries: Array  # (B|1, H|1, T|1, 1)
    keys: Array  # (B|1, K|1, S|1, 1)


# jit so that a call outside of one compiles once, not operation by operation; inlined within one.
@partial(jax.jit, static_argnames=("scale", "softcap"), inline=True)
def forward(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    mask: Mask,
    bias: Float[Array, "#B #H #T #S"] | None,
    scale: float,
    softcap: float | None,
    dropout: Dropout = None,
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """(o in v.dtype, lse in float32 or float64)."""
    seen = _seen(q, k, mask, bias)
    qh, kh, vh = _heads_first(q, k, v, seen)
    s, _ = _scores(qh, kh, bias, scale, softcap, seen)
    m = s.max(3, keepdims=True, initial=-jnp.inf)
    if seen is not None or k.shape[1] == 0:
        m = jnp.where(m == -jnp.inf, 0, m)
    p = jnp.exp(s - m)
    z = p.sum(3, keepdims=True)
    lse = (m + jnp.log(z))[..., 0]  # log 0 = -inf is an empty row's lse
    keep = kept(dropout, s.shape, s.dtype)
    o = _values(p if keep is None else p * keep, vh) / jnp.where(z == 0, 1, z)
    return o.swapaxes(1, 2).astype(v.dtype), lse


@partial(jax.jit, static_argnames=("scale", "softcap"), inline=True)
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
    dropout: Dropout = None,
) -> tuple[Array, Array, Array, Array | None]:
    """(dq, dk, dv, dbias | None) for the lse of these keys and the cotangents of o and lse.

    It needs no `o`: where all keys are at hand, p dp sums to what o do does, without reading two
    arrays of queries, and took 0.6 to 0.9 of the time on a CPU.
    """
    seen = _seen(q, k, mask, bias)
    qh, kh, vh = _heads_first(q, k, v, seen)
    s, slope = _scores(qh, kh, bias, scale, softcap, seen)
    do = do.swapaxes(1, 2).astype(s.dtype)
    if seen is not None or k.shape[1] == 0:
        valid = lse != -jnp.inf
        do = jnp.where(valid[..., None], do, 0)
        dlse = None if dlse is None else jnp.where(valid, dlse, 0)
        lse = jnp.where(valid, lse, 0)
    p, dp = jnp.exp(s - lse[..., None]), _scores_of(do, vh)
    keep = kept(dropout, s.shape, s.dtype)
    dv = _per_key(p if keep is None else p * keep, do, vh.shape[1])
    dp = dp if keep is None else dp * keep
    delta = inner(p, dp)
    delta = delta if dlse is None else delta - dlse
    ds = p * (dp - delta[..., None])
    dbias = None if bias is None else _sum_to(ds, bias.shape).astype(bias.dtype)
    ds = (ds if slope is None else ds * slope) * scale
    dq, dk = _values(ds, kh), _per_key(ds, qh, kh.shape[1])
    dq, dk, dv = (g.swapaxes(1, 2).astype(x.dtype) for g, x in ((dq, q), (dk, k), (dv, v)))
    return dq, dk, dv, dbias


def _seen(q, k, mask: Mask, bias) -> _Seen | None:
    """None where everything is visible."""
    (B, T, H, _), (_, S, K, _) = q.shape, k.shape
    if not mask.terms and bias is None:
        return None
    pairs = mask.visible(B, T, S)
    if bias is not None:
        pairs = pairs & (bias != -jnp.inf)
    keys = pairs.any(2)
    if keys.shape[1] > 1:
        keys = keys.reshape(keys.shape[0], K, H // K, keys.shape[2]).any(2)
    return _Seen(pairs, pairs.any(3, keepdims=True), keys[..., None])


def _heads_first(q, k, v, seen: _Seen | None):
    """(B,H,T,D), (B,K,S,D), (B,K,S,V): one transpose each, then plain batched products.

    What nobody sees becomes 0 here: it may hold NaN, and 0 * NaN is NaN.
    """
    dtype = precision(q.dtype)
    q, k, v = (x.swapaxes(1, 2).astype(dtype) for x in (q, k, v))
    if seen is None:
        return q, k, v
    return jnp.where(seen.queries, q, 0), jnp.where(seen.keys, k, 0), jnp.where(seen.keys, v, 0)


def _scores(q, k, bias, scale, softcap, seen: _Seen | None) -> tuple[Array, Any]:
    """Scores (B,H,T,S), -inf where invisible, and the slope of the soft-cap (None without one)."""
    s = _scores_of(q, k) * scale
    slope = None
    if softcap is not None:
        capped = jnp.tanh(s / softcap)
        s, slope = softcap * capped, 1 - capped * capped
    if bias is not None:
        s = s + bias.astype(s.dtype)
    return (s if seen is None else jnp.where(seen.pairs, s, -jnp.inf)), slope


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
    return dot(_grouped(p, K).swapaxes(2, 3), _grouped(x, K), 3, 2)


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    axes = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return x.sum(axes, keepdims=True)
