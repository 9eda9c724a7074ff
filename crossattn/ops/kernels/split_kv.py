"""Join partial results by their lse; split-KV on one device.

Softmax over the union of disjoint sets of keys is the lse-weighted mean of the partial results
(Milakov & Gimelshein 2018; split-KV: Dao et al. 2023, "Flash-Decoding"). Few queries over a long
context leave a wide device idle; with the keys in parts along the batch, by a reshape, any kernel
that returns lse fills it, and its gradients stay exact and deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.checks import as_array
from crossattn.ops.masks.mask import Mask
from crossattn.shapes import Array, Float

Kernel = Callable[..., Any]  # forward or backward of the kernel contract, see dispatch.Kernel

__all__ = ["backward", "forward", "merge_partials", "parts_for", "split"]


def merge_partials(
    o: Float[Array, "P B T H V"], lse: Float[Array, "P B H T"]
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """Attention over all keys from P partial results over disjoint keys: (o, lse).

    Empty parts (lse -inf) count for nothing, and where every part is empty so is the result.
    Differentiable in both.

    >>> from crossattn import attend
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 4))
    >>> o, trace = zip(*(attend(q, k[:, part], v[:, part]) for part in (slice(4), slice(4, 6))))
    >>> together, lse = merge_partials(jnp.stack(o), jnp.stack([t.lse for t in trace]))
    >>> bool(jnp.allclose(together, attend(q, k, v)[0], atol=1e-6))
    True

    Raises:
      TypeError, ValueError: o or lse is no array, or they are not of the same parts.
    """
    o, lse = as_array("o", o), as_array("lse", lse)
    if (
        o is None
        or lse is None
        or o.ndim != 5
        or lse.shape != (*o.shape[:2], o.shape[3], o.shape[2])
    ):
        shapes = [None if x is None else list(x.shape) for x in (o, lse)]
        raise ValueError(
            f"merge_partials takes o (P, B, T, H, V) and lse (P, B, H, T), got {shapes}"
        )
    top = jax.lax.stop_gradient(lse.max(0))
    some = top != -jnp.inf
    weight = jnp.where(lse == -jnp.inf, 0, jnp.exp(lse - jnp.where(some, top, 0)[None]))
    total = jnp.where(some, weight.sum(0), 1)
    share = (weight / total[None]).swapaxes(2, 3)[..., None]
    joined = jnp.sum(jnp.where(share == 0, 0, o.astype(lse.dtype) * share), 0)
    return joined.astype(o.dtype), jnp.where(some, top + jnp.log(total), -jnp.inf)


def parts_for(B: int, T: int, S: int, H: int, units: int = 132) -> int:
    """Parts that give each of `units` processors work: one takes 128 queries of one head.

    At least two and none smaller than 512 keys; a divisor of S close by, which needs no padding.
    """
    wanted = max(2, min(-(-units // max(1, B * H * -(-T // 128))), S // 512))
    return next((n for n in range(wanted, 2 * wanted) if S % n == 0), wanted)


def forward(q, k, v, mask: Mask, bias, scale, softcap, parts: int, kernel: Kernel):
    """The kernel contract around `kernel`'s forward: (o, lse)."""
    o, lse = kernel(*split(q, k, v, mask, bias, parts), scale, softcap)
    return merge_partials(_parts_first(o, parts), _parts_first(lse, parts))


def backward(
    q, k, v, mask: Mask, bias, scale, softcap, o, lse, do, dlse, parts: int, kernel: Kernel
):
    """The kernel contract around `kernel`'s backward, which takes the o and lse of all keys."""
    cut = split(q, k, v, mask, bias, parts)
    o, lse, do, dlse = (None if x is None else jnp.repeat(x, parts, 0) for x in (o, lse, do, dlse))
    dq, dk, dv, dbias = kernel(*cut, scale, softcap, o, lse, do, dlse)
    dq = _parts_first(dq, parts).astype(lse.dtype).sum(0).astype(q.dtype)
    dk, dv = (
        g.reshape(q.shape[0], parts * g.shape[1], *g.shape[2:])[:, : k.shape[1]] for g in (dk, dv)
    )
    return dq, dk, dv, None if bias is None else _joined_bias(dbias, bias, parts)


def split(q, k, v, mask: Mask, bias, parts: int):
    """The call with its keys in parts: row b * parts + p is part p of example b."""
    (B, T, _, _), S = q.shape, k.shape[1]
    padded = -(-S // parts) * parts
    mask = mask.padded(B, T, S, T, padded).split_keys(B, T, padded, parts)
    k, v = (_padded(x, 1, padded).reshape(B * parts, padded // parts, *x.shape[2:]) for x in (k, v))
    if bias is not None:
        b, h, t, s = bias.shape
        if s == 1:
            bias = bias if b == 1 else jnp.repeat(bias, parts, 0)
        else:
            bias = _padded(bias, 3, padded).reshape(b, h, t, parts, padded // parts)
            bias = jnp.moveaxis(jnp.broadcast_to(bias, (B, *bias.shape[1:])), 3, 1)
            bias = bias.reshape(B * parts, h, t, padded // parts)
    return jnp.repeat(q, parts, 0), k, v, mask, bias


def _joined_bias(g: Array, bias: Array, parts: int) -> Array:
    """The gradient of the bias from that of its parts."""
    b, h, t, s = bias.shape
    if s == 1:
        return g if b == 1 else g.reshape(b, parts, h, t, 1).sum(1)
    g = jnp.moveaxis(g.reshape(g.shape[0] // parts, parts, h, t, g.shape[3]), 1, 3)
    g = g.reshape(g.shape[0], h, t, parts * g.shape[4])[..., :s]
    return g if b > 1 else g.sum(0, keepdims=True)


def _padded(x: Array, axis: int, n: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, n - x.shape[axis])
    return jnp.pad(x, widths)


def _parts_first(x: Array, parts: int) -> Array:
    return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)
