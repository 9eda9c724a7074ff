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
    undropped = None

    @property
    def label(self) -> str:
        return f"{self.name} around {self.inner.label}"

    @property
    def static_mask(self) -> bool:
        return self.inner.static_mask

    def unsupported(self, call: AttentionCall) -> str | None:
        reason = super().unsupported(call)
        if reason or self.inner is chunked.KERNEL:
            return reason
        part, form = _part(call), lambda call: self.inner.fitted("cuda", call).label
        reason = self.inner.unsupported(part)
        if reason is None and form(part) != form(call):
            return f"in parts the mask would take another way: {form(part)}, whole {form(call)}"
        return reason

    def assumed(self) -> str | None:
        return self.inner.assumed()

    def fitted(self, platform: str, call: AttentionCall) -> Kernel:
        parts, part = _parts_for(*call.sizes[:4]), _part(call)
        inner: Kernel = chunked.KERNEL
        if platform in FUSED and FUSED[platform].KERNEL.unsupported(part) is None:
            inner = FUSED[platform].KERNEL
        return SplitKVKernel(parts, inner.fitted(platform, part))

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        if _by_heads(call):
            B, T, _, H, _ = call.sizes
            o, lse = self.forward(_heads_in_batch(call))
            return _heads_back(o, call), lse.reshape(B, H, T)
        o, lse = self.inner.forward(_split(call, self.parts))
        return merge_partials(_parts_first(o, self.parts), _parts_first(lse, self.parts))

    def backward(self, call: AttentionCall, given: BackwardInputs) -> Gradients:
        parts, (B, T, _, H, K) = self.parts, call.sizes
        if _by_heads(call):
            o, do = (_in_batch(x, K) for x in (given.o, given.do))
            rows = lambda x: x if x is None else x.reshape(B * K, H // K, T)
            inner = BackwardInputs(o, rows(given.lse), do, rows(given.dlse))
            *gradients, dbias = self.backward(_heads_in_batch(call), inner)
            dq, dk, dv = (_heads_back(x, call) for x in gradients)
            return dq, dk, dv, dbias
        repeated = BackwardInputs(*(None if x is None else jnp.repeat(x, parts, 0) for x in given))
        cut, back = jax.vjp(partial(_keys_split, call, parts), call.k, call.v, call.bias)
        dq, *dkeys = self.inner.backward(_split(call, parts, cut), repeated)
        # Keys and the bias go back the way they came; queries, in the precision of the softmax.
        dq = _parts_first(dq, parts).astype(given.lse.dtype).sum(0).astype(call.q.dtype)
        return dq, *back(tuple(dkeys))


KERNEL = SplitKVKernel()
AROUND_CUDNN = SplitKVKernel(inner=cudnn.KERNEL)  # and around nothing else


def _parts_for(B: int, T: int, S: int, H: int, units: int = 132) -> int:
    """Parts that give each of `units` processors work: one takes 128 queries of one head.

    At least two and none smaller than 512 keys; a divisor of S close by, which needs no padding,
    and of these the one with which the processors are done first.
    """
    tiles = max(1, B * H * -(-T // 128))
    wanted = max(2, min(-(-units // tiles), S // 512))
    divisors = [n for n in range(wanted, 2 * wanted) if S % n == 0]
    return min(divisors, key=lambda n: -(-tiles * n // units) / n, default=wanted)


def _part(call: AttentionCall) -> AttentionCall:
    """The call that the inner kernel is given, its arrays as shapes."""
    parts = _parts_for(*call.sizes[:4])
    whole = lambda call: _heads_in_batch(call) if _by_heads(call) else call
    return jax.eval_shape(lambda call: _split(whole(call), parts), call)


# Keys that lie heads first have their parts side by side in memory only within one head, so that
# each key head is an example of its own.


def _by_heads(call: AttentionCall) -> bool:
    of_heads = any(jnp.ndim(x) == 4 and x.shape[1] > 1 for x in jax.tree.leaves(call.mask))
    return call.heads_first and call.bias is None and not of_heads


def _heads_in_batch(call: AttentionCall) -> AttentionCall:
    B, *_, K = call.sizes
    own = lambda x: jnp.ndim(x) > 0 and x.shape[0] == B
    mask = jax.tree.map(lambda x: jnp.repeat(x, K, 0) if own(x) else x, call.mask)
    q, k, v = (_in_batch(x, K) for x in (call.q, call.k, call.v))
    return dataclasses.replace(call, q=q, k=k, v=v, mask=mask, heads_first=False)


def _in_batch(x: Array, K: int) -> Array:
    """(B, N, H, X) -> (B K, N, H / K, X)."""
    B, N, H, X = x.shape
    return x.reshape(B, N, K, H // K, X).swapaxes(1, 2).reshape(B * K, N, H // K, X)


def _heads_back(x: Array, call: AttentionCall) -> Array:
    (_, N, G, X), (B, *_, K) = x.shape, call.sizes
    return x.reshape(B, K, N, G, X).swapaxes(1, 2).reshape(B, N, K * G, X)


def _split(
    call: AttentionCall, parts: int, keys: tuple[Any, Any, Any] | None = None
) -> AttentionCall:
    """The call with its keys in parts: row b * parts + p is part p of example b."""
    B, T, S, *_ = call.sizes
    padded = -(-S // parts) * parts
    mask = call.mask.padded(B, T, S, T, padded).split_keys(B, T, padded, parts)
    k, v, bias = keys or _keys_split(call, parts, call.k, call.v, call.bias)
    q, dropout = jnp.repeat(call.q, parts, 0), call.dropout
    if dropout is not None:
        dropout = dropout.split_keys(parts, padded // parts)
    return dataclasses.replace(call, q=q, k=k, v=v, mask=mask, bias=bias, dropout=dropout)


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
