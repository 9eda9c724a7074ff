"""Between the projections: what designs do to the one operation, all of it around `attend`."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import jax.numpy as jnp

from crossattn.nn.config import Logits
from crossattn.nn.dtypes import promoted
from crossattn.ops import AttentionTrace, Mask, attend, merge_partials
from crossattn.ops.partials import add_sinks
from crossattn.shapes import Array, Float
from crossattn.sharding import ContextParallel, attend_sharded

__all__ = ["attend_heads", "attend_over", "compete", "join", "talk"]


def attend_over(
    layout: ContextParallel | None,
    queries: Float[Array, "B T H D"],
    keys: Float[Array, "B S K D"],
    values: Float[Array, "B S K V"],
    **how: Any,
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
    """`attend`, or `attend_sharded` where the tokens lie over devices."""
    if layout is None:
        return attend(queries, keys, values, **how)
    return attend_sharded(queries, keys, values, layout=layout, **how)


def attend_heads(
    queries: Float[Array, "B T H D"],
    keys: Float[Array, "B S K D"],
    values: Float[Array, "B S K V"],
    logits: Logits,
    *,
    layout: ContextParallel | None = None,
    **how: Any,
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
    """`attend` with the scale and soft-cap of a design, whatever its softmax runs over."""
    how |= {"scale": logits.scale, "softcap": logits.softcap}
    if logits.competition == "queries":
        return compete(queries, keys, values, layout=layout, **how)
    return attend_over(layout, queries, keys, values, **how)


def compete(
    queries: Float[Array, "B T H D"],
    keys: Float[Array, "B S H D"],
    values: Float[Array, "B S H V"],
    *,
    mask: Mask,
    bias: Float[Array, "_ _ _ _"] | None = None,
    layout: ContextParallel | None = None,
    dropout: tuple[float, Array] | None = None,
    **how: Any,
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
    """Queries compete for keys: softmax over queries, then each query's weights sum to one.

    exp(s - z) / sum over keys of exp(s - z), where z of a key is the log-sum-exp of its logits over
    the queries: ordinary attention with the bias -z, so that no weights are held
    (Locatello et al. 2020, "Object-Centric Learning with Slot Attention").
    """
    B, T, S = queries.shape[0], queries.shape[1], keys.shape[1]
    back = Mask()
    if mask.terms:
        seen = jnp.broadcast_to(mask.dense_array(B, T, S), (B, 1, T, S))
        back = Mask.dense(seen.swapaxes(2, 3))
    turned = None if bias is None else bias.swapaxes(2, 3)
    _, won = attend_over(layout, keys, queries, queries, mask=back, bias=turned, **how)
    share = jnp.where(won.valid, won.lse, 0)[:, :, None].astype(queries.dtype)
    if bias is not None:
        bias, share = promoted(None, bias, share)
    bias = -share if bias is None else bias - share
    how["dropout"] = dropout
    return attend_over(layout, queries, keys, values, mask=mask, bias=bias, **how)


def talk(
    queries: Float[Array, "B T H D"],
    keys: Float[Array, "B S H D"],
    values: Float[Array, "B S H V"],
    logits: Logits,
    logits_mix: Float[Array, "H H"],
    weights_mix: Float[Array, "H H"],
    **how: Any,
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
    """Head h has the logits sum_g a[h, g] s_g, and reads with sum_g b[h, g] of the weights.

    a is `logits_mix`, b `weights_mix`. A query of all heads side by side, weighted by a row of a,
    meets keys of all heads side by side; every head reads the values of all heads (Shazeer et al.
    2020, "Talking-Heads Attention"). The trace has the weights before b, which are also those that
    dropout drops.
    """
    (B, T, H, D), S, V = queries.shape, keys.shape[1], values.shape[-1]
    logits_mix, weights_mix = (m.astype(queries.dtype) for m in (logits_mix, weights_mix))
    mixed = jnp.einsum("btgd,hg->bthgd", queries, logits_mix).reshape(B, T, H, H * D)
    scale = D**-0.5 if logits.scale is None else logits.scale
    whole = dataclasses.replace(logits, scale=scale)
    side_by_side = lambda x: x.reshape(B, S, 1, -1)
    out, trace = attend_heads(mixed, side_by_side(keys), side_by_side(values), whole, **how)
    return jnp.einsum("btghv,hg->bthv", out.reshape(B, T, H, H, V), weights_mix), trace


def join(
    out: Float[Array, "B T H V"],
    trace: AttentionTrace,
    others: Sequence[tuple[Array, Array]],
    sinks: Iterable[Array] = (),
) -> tuple[Float[Array, "B T H V"], AttentionTrace]:
    """One softmax over the keys of `out`, others, each given as (out, lse), and sinks.

    The trace keeps its keys, of which the weights then sum to less than 1.
    """
    total = trace.lse
    if others:
        outs, lses = zip((out, total), *others, strict=True)
        out, total = merge_partials(jnp.stack(outs), jnp.stack(lses))
    for sink in sinks:
        out, total = add_sinks(out, total, sink)
    if total is trace.lse:
        return out, trace
    return out, dataclasses.replace(trace, lse=total, key_lse=trace.lse)
