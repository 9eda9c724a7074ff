"""Split-KV on one device (Dao et al. 2023, "Flash-Decoding").

Few queries over a long context leave a wide device idle; with the keys in parts along the batch, by
a reshape, any kernel that returns lse fills it, and its gradients stay exact and deterministic.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked, cudnn, splash
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, Gradients, Kernel
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
        return f"{self.name} around {self.inner.label}"

    @property
    def static_mask(self) -> bool:
        return self.inner.static_mask

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        parts = _parts_for(*call.sizes[:4])
        part = jax.eval_shape(lambda call: _split(call, parts), call)
        inner: Kernel = chunked.KERNEL
        if platform in FUSED and FUSED[platform].KERNEL.unsupported(part) is None:
            inner = FUSED[platform].KERNEL
        return SplitKVKernel(parts, inner.fitted(platform, part))

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        o, lse = self.inner.forward(_split(call, self.parts))
        return merge_partials(_parts_first(o, self.parts), _parts_first(lse, self.parts))

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        parts = self.parts
        repeated = BackwardInputs(*(None if x is None else jnp.repeat(x, parts, 0) for x in given))
        cut, back = jax.vjp(partial(_keys_split, call, parts), call.k, call.v, call.bias)
        dq, *dkeys = self.inner.backward(_split(call, parts, cut), repeated)
        # Keys and the bias go back the way they came; queries, in the precision of the softmax.
        dq = _parts_first(dq, parts).astype(given.lse.dtype).sum(0).astype(call.q.dtype)
        return dq, *back(tuple(dkeys))


KERNEL = SplitKVKernel()


def _parts_for(B: int, T: int, S: int, H: int, units: int = 132) -> int:
    """Parts that give each of `units` processors work: one takes 128 queries of one head.

    At least two and none smaller than 512 keys; a divisor of S close by, which needs no padding.
    """
    wanted = max(2, min(-(-units // max(1, B * H * -(-T // 128))), S // 512))
    return next((n for n in range(wanted, 2 * wanted) if S % n == 0), wanted)


def _split(
    call: AttentionCall, parts: int, keys: tuple[Any, Any, Any] | None = None
) -> AttentionCall:
    """The call with its keys in parts: row b * parts + p is part p of example b."""
    B, T, S, *_ = call.sizes
    padded = -(-S // parts) * parts
    mask = call.mask.padded(B, T, S, T, padded).split_keys(B, T, padded, parts)
    k, v, bias = keys or _keys_split(call, parts, call.k, call.v, call.bias)
    q = jnp.repeat(call.q, parts, 0)
    return dataclasses.replace(call, q=q, k=k, v=v, mask=mask, bias=bias)


def _keys_split(call: AttentionCall, parts: int, k, v, bias) -> tuple[Array, Array, Any]:
    B, _, S, *_ = call.sizes
    padded = -(-S // parts) * parts
    k, v = (_padded(x, 1, padded).reshape(B * parts, padded // parts, *x.shape[2:]) for x in (k, v))
    if bias is None or bias.shape[3] == 1:
        return k, v, bias if bias is None or bias.shape[0] == 1 else jnp.repeat(bias, parts, 0)
    _, h, t, _ = bias.shape
    bias = _padded(bias, 3, padded).reshape(-1, h, t, parts, padded // parts)
    bias = jnp.moveaxis(jnp.broadcast_to(bias, (B, *bias.shape[1:])), 3, 1)
    return k, v, bias.reshape(B * parts, h, t, padded // parts)


def _padded(x: Array, axis: int, n: int) -> Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, n - x.shape[axis])
    return jnp.pad(x, widths)


def _parts_first(x: Array, parts: int) -> Array:
    return jnp.moveaxis(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 1, 0)
