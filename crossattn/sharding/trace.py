"""The trace of an attention whose keys lie over devices: its statistics move no key."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.masks.mask import Mask
from crossattn.ops.reference import precision, scores
from crossattn.ops.trace.statistics import Sums, sums
from crossattn.ops.trace.statistics_block import finished
from crossattn.ops.trace.trace import AttentionTrace
from crossattn.shapes import Array
from crossattn.sharding.context_parallel import ContextParallel, Side, local, padded
from crossattn.sharding.exchange import gather_tokens, parts

__all__ = ["ShardedTrace"]


@dataclasses.dataclass(frozen=True, repr=False)
class ShardedTrace(AttentionTrace):
    """An `AttentionTrace` of the same abilities over the devices of a mesh axis.

    Queries go to the keys, whatever the strategy of the attention was: every device makes the sums
    of its own keys, which are joined where the query lies. So statistics cost O(T) on the wire, for
    R columns (n-1)/n * T H (D e + 4 (R + 6)) bytes a device and example, and lie as the output
    does. `weights` lie along the keys: of R queries, O(R) moves.
    """

    layout: Any = None

    def _sums(self, names: tuple[str, ...], columns: Array | None) -> Sums:
        return _summed(self, columns).only(names)

    # As in ops/trace/trace.py: one compilation for a call outside of jit, inlined within.
    @partial(jax.jit, inline=True)
    def _weights(self, queries: Any) -> Array:
        (B, T, _, _), S = self.q.shape, self.k.shape[1]
        rows = jnp.arange(T, dtype=jnp.int32) if queries is None else queries
        rows = jnp.broadcast_to(rows if rows.ndim == 2 else rows[None], (B, rows.shape[-1]))
        return _weights(self, rows)[..., :S]


jax.tree_util.register_dataclass(
    ShardedTrace,
    data_fields=["q", "k", "mask", "bias", "lse", "key_lse"],
    meta_fields=["scale", "softcap", "layout"],
)


@partial(jax.jit, inline=True)
def _summed(trace: ShardedTrace, columns: Array | None) -> Sums:
    layout, T = trace.layout, trace.q.shape[1]
    q, k, _, mask, bias = padded(layout, trace.q, trace.k, None, trace.mask, trace.bias)
    shift = jax.lax.stop_gradient(jnp.where(trace.valid, trace._keys_lse, 0))
    shift = jnp.pad(shift, [(0, 0), (0, 0), (0, q.shape[1] - T)])
    if columns is not None:
        columns = jnp.pad(columns, [(0, 0), (0, k.shape[1] - columns.shape[1]), (0, 0)])

    def body(index, q, k, mask, bias, shift, columns):
        B, S = k.shape[:2]
        q = gather_tokens(q, layout.axis, 1)
        shift = gather_tokens(shift, layout.axis, 2)
        mask = local(mask, B, Side.whole(q.shape[1]), Side.part(S, layout.n, index))
        call = (q, k, mask, bias, shift, columns)
        found = sums(*call, scale=trace.scale, softcap=trace.softcap)
        return _joined(found._replace(at=found.at + index * jnp.int32(S)), layout.axis)

    row = layout.spec("B H T", shift.shape)
    wide = None if columns is None else layout.spec("B H T R", (*shift.shape, columns.shape[2]))
    specs, bias = _keys_cut(layout, q, k, mask, bias)
    specs = (
        *specs,
        row,
        None if columns is None else layout.spec("B S R", columns.shape),
    )
    out = Sums(row, row, row, row, wide, row, row)
    found = layout.map(body, (q, k, mask, bias, shift, columns), specs, out)
    return jax.tree.map(lambda x: x[:, :, :T], found)


def _joined(found: Sums, axis: str) -> Sums:
    """The sums of this device's queries over all keys, from those of all queries over its keys."""
    # An entropy is no sum; that of e x, of which it is made, has the gradients of both.
    some = found.total > 0
    mean = jnp.log(jnp.where(some, found.total, 1)) - found.entropy
    floats = jnp.stack([found.total, jnp.where(some, found.total * mean, 0), found.top], -1)
    if found.columns is not None:
        floats = jnp.concatenate([floats, found.columns], -1)
    floats = parts(floats, axis, 2)
    visible, at = jnp.moveaxis(parts(jnp.stack([found.visible, found.at], -1), axis, 2), -1, 0)
    total, surprise, top = (floats[..., i] for i in range(3))
    # The first of equals is the part of the first keys.
    winner = jnp.argmax(top, 0, keepdims=True)
    best = lambda x: jnp.take_along_axis(x, winner, 0)[0]
    columns = None if found.columns is None else floats[..., 3:].sum(0)
    whole = Sums(total.sum(0), surprise.sum(0), None, best(top), columns, visible.sum(0), best(at))
    return finished(whole, Sums._fields)


def _keys_cut(layout: ContextParallel, q, k, mask: Mask, bias):
    """Specs of a call whose keys stay, and its bias: of mask and bias only their side is cut."""
    leaves = layout.of_mask(mask, "S")
    of_bias, bias = layout.of_bias(bias, "S")
    specs = (
        layout.spec("B T H D", q.shape),
        layout.spec("B S K D", k.shape),
        jax.tree.unflatten(jax.tree.structure(mask), leaves),
        of_bias,
    )
    return specs, bias


def _weights(trace: ShardedTrace, rows: Array) -> Array:
    """(B, H, R, S padded), along the keys over the axis."""
    layout, T = trace.layout, trace.q.shape[1]
    q, k, _, mask, bias = padded(layout, trace.q, trace.k, None, trace.mask, trace.bias)
    ends = [(0, 0), (0, 0), (0, q.shape[1] - T)]
    shift = jax.lax.stop_gradient(jnp.where(trace.valid, trace._keys_lse, 0))
    shift, log_mass = (jnp.pad(x, ends) for x in (shift, trace._log_mass()))

    def body(index, q, k, mask, bias, shift, log_mass, rows):
        (B, size), S = q.shape[:2], k.shape[1]
        pick = lambda x: _picked(x, rows - index * jnp.int32(size), layout.axis)
        q = pick(q)
        shift, log_mass = (pick(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (shift, log_mass))
        if bias is not None and bias.shape[2] > 1:
            whole = jnp.broadcast_to(bias, (B, *bias.shape[1:]))
            bias = jax.vmap(lambda x, r: jnp.take(x, r, axis=1))(whole, rows)
        whole = size * layout.n
        mask = local(mask, B, Side.whole(whole), Side.part(S, layout.n, index))
        visible = mask.visible(B, whole, S, rows)
        s, _ = scores(q, k, visible, bias, trace.scale, trace.softcap)
        e = jnp.exp(s - shift[..., None])
        total = jax.lax.psum(e.sum(3), layout.axis)
        return (jnp.exp(log_mass) / jnp.where(total == 0, 1, total))[..., None] * e

    row = layout.spec("B H T", shift.shape)
    specs, bias = _keys_cut(layout, q, k, mask, bias)
    specs = (*specs, row, row, layout.spec("B R", rows.shape))
    out = layout.spec("B H R S", (*shift.shape[:2], rows.shape[1], k.shape[1]))
    return layout.map(body, (q, k, mask, bias, shift, log_mass, rows), specs, out)


def _picked(x: Array, rows: Array, axis: str) -> Array:
    """x (B, size, ...) of whichever device has them at rows (B, R), counted from its first."""
    mine = (rows >= 0) & (rows < x.shape[1])
    found = jax.vmap(lambda x, r: jnp.take(x, r, axis=0, mode="clip"))(x, rows)
    mine = mine.reshape(*mine.shape, *[1] * (x.ndim - 2))
    # Half precision is summed in float32: see ContextParallel.of_bias.
    return jax.lax.psum(jnp.where(mine, found, 0).astype(precision(x.dtype)), axis)
