"""Split-KV on one device (Dao et al. 2023, "Flash-Decoding").

Few queries over a long context leave a wide device idle; with the keys in parts along the batch, by
a reshape, any kernel that returns lse fills it, and its gradients stay exact and deterministic.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked, cudnn, splash
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Kernel
from crossattn.ops.partials import merge_partials
from crossattn.shapes import Array

__all__ = ["KERNEL"]

FUSED = {"cuda": cudnn, "tpu": splash}  # what parts are given to where it can take them


@dataclasses.dataclass(frozen=True)
class SplitKVKernel(Kernel):
    """Any kernel around which results of parts are joined."""

    parts: int = 1
    inner: Kernel = chunked.KERNEL

    name = "split_kv"
    summary = "keys in parts along the batch, joined by lse: few queries over a long context"

    @property
    def label(self) -> str:
        """Of both."""
        return f"{self.name} around {self.inner.label}"

    @property
    def static_mask(self) -> bool:
        """That of the parts."""
        return self.inner.static_mask

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        """With a kernel for parts of a size that keeps a device busy."""
        parts = _parts_for(*call.sizes[:4])
        part = jax.eval_shape(lambda call: _split(call, parts), call)
        inner: Kernel = chunked.KERNEL
        if platform in FUSED and FUSED[platform].KERNEL.unsupported(part) is None:
            inner = FUSED[platform].KERNEL
        return SplitKVKernel(parts, inner.fitted(platform, part))

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        """(o, lse)."""
        o, lse = self.inner.forward(_split(call, self.parts))
        return merge_partials(_parts_first(o, self.parts), _parts_first(lse, self.parts))

    def backward(self, call: AttentionCall, given: BackwardInputs) -> tuple[Any, ...]:
        """(dq, dk, dv, dbias): each part takes the o and lse of all keys."""
        q, k, bias, parts = call.q, call.k, call.bias, self.parts
        repeated = BackwardInputs(*(None if x is None else jnp.repeat(x, parts, 0) for x in given))
        dq, dk, dv, dbias = self.inner.backward(_split(call, parts), repeated)
        dq = _parts_first(dq, parts).astype(given.lse.dtype).sum(0).astype(q.dtype)
        dk, dv = (
            g.reshape(q.shape[0], parts * g.shape[1], *g.shape[2:])[:, : k.shape[1]]
            for g in (dk, dv)
        )
        return dq, dk, dv, None if bias is None else _joined_bias(dbias, bias, parts)


KERNEL = SplitKVKernel()


def _parts_for(B: int, T: int, S: int, H: int, units: int = 132) -> int:
    """Parts that give each of `units` processors work: one takes 128 queries of one head.

    At least two and none smaller than 512 keys; a divisor of S close by, which needs no padding.
    """
    wanted = max(2, min(-(-units // max(1, B * H * -(-T // 128))), S // 512))
    return next((n for n in range(wanted, 2 * wanted) if S % n == 0), wanted)


def _split(call: AttentionCall, parts: int) -> AttentionCall:
    """The call with its keys in parts: row b * parts + p is part p of example b."""
    (B, T, S, *_), bias = call.sizes, call.bias
    padded = -(-S // parts) * parts
    mask = call.mask.padded(B, T, S, T, padded).split_keys(B, T, padded, parts)
    k, v = (
        _padded(x, 1, padded).reshape(B * parts, padded // parts, *x.shape[2:])
        for x in (call.k, call.v)
    )
    if bias is not None:
        b, h, t, s = bias.shape
        if s == 1:
            bias = bias if b == 1 else jnp.repeat(bias, parts, 0)
        else:
            bias = _padded(bias, 3, padded).reshape(b, h, t, parts, padded // parts)
            bias = jnp.moveaxis(jnp.broadcast_to(bias, (B, *bias.shape[1:])), 3, 1)
            bias = bias.reshape(B * parts, h, t, padded // parts)
    q = jnp.repeat(call.q, parts, 0)
    return dataclasses.replace(call, q=q, k=k, v=v, mask=mask, bias=bias)


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
