"""Logits of words and their cross-entropy, of which a large vocabulary holds few at a time.

The logits of B T words of a vocabulary V are the largest array of a training step by far: 1.5 GB in
float32 for 16 x 448 words of 51,866, and as much again for their gradient. `cross_entropy` makes
them for some words at a time and takes the gradient at once, while they are there (Hsu et al. 2024,
"Liger Kernel"; Wijmans et al. 2024, "Cut Your Losses"): three products as without it, none twice.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from crossattn.nn.dtypes import summed_wide
from crossattn.nn.tables import in_table
from crossattn.ops.reference import precision
from crossattn.ops.varying import varying_like
from crossattn.shapes import Array, Bool, Float, Int
from crossattn.sharding import BATCH_AXES

__all__ = ["LOGITS_AT_ONCE", "Targets", "cross_entropy"]

# A quarter of a GB in float32. Larger blocks make better products, smaller ones less memory; the
# gradient of the table is added to once for each block. Measured in experiments/LOG.md.
LOGITS_AT_ONCE = 2**26


class Targets(NamedTuple):
    """What is to be predicted.

    Attributes:
      words: (B, T) those that follow; where the weight is 0 any number.
      weight: (B, T) of each in the sum.
      smoothing: share of each target that all words have in equal parts (Szegedy et al. 2016).
    """

    words: Int[Array, "B T"]
    weight: Float[Array, "B T"]
    smoothing: float = 0.0


class _How(NamedTuple):
    """The part of a call that is compiled in."""

    axis: int
    smoothing: float
    blocks: int
    groups: int


def cross_entropy(
    x: Float[Array, "B T M"],
    table: Float[Array, "_ _"],
    targets: Targets,
    *,
    axis: int = 0,
    bias: Float[Array, " V"] | None = None,
    blocks: int | None = None,
) -> tuple[Float[Array, ""], Bool[Array, "B T"]]:
    """The weighted sum of cross-entropies of words, and which of them are the most likely ones.

    Logits are products in x's dtype, added up in float32 as is everything else. They exist for
    `LOGITS_AT_ONCE` words of the vocabulary times positions at a time, but for at least one
    position of each row.

    Args:
      x: what logits are made of (B, T, M).
      table: a vector for each word, in any dtype: (V, M), or (M, V) where `axis` is 1.
      targets: see `Targets`. What has weight 0 influences nothing, even as NaN.
      axis: of the vocabulary in the table.
      bias: added to the logits (V,).
      blocks: in which positions are taken; None: as few as there may be.

    Returns:
      A number in float32 (float64 for float64), which is NaN where a word that counts is outside of
      the vocabulary, and booleans (B, T), of which those without weight mean nothing. The number
      can be differentiated in reverse mode.

    Raises:
      ValueError: a word that counts is outside of the vocabulary, where that is known.

    Example:
      >>> x, table = jnp.ones((1, 2, 3)), jnp.eye(5, 3)
      >>> targets = Targets(jnp.array([[0, 4]]), jnp.array([[1.0, 0.0]]))
      >>> loss, right = cross_entropy(x, table, targets)
      >>> round(float(loss), 4), right[0].tolist()
      (1.318, [True, False])
    """
    words, weight, smoothing = targets
    (B, T, _), V = x.shape, table.shape[axis]
    weight = weight.astype(precision(x.dtype))
    counts = weight != 0
    there = in_table("word", jnp.where(counts, words, 0), V)
    words, weight = words.astype(jnp.int32), jnp.where(there, weight, jnp.nan)
    x = jnp.where(counts[..., None] | jnp.isfinite(x), x, 0)
    if blocks is None:
        blocks = -(-B * T * V // LOGITS_AT_ONCE)
    how = _How(axis, float(smoothing), max(1, min(blocks, T)), _groups(B))
    return _summed(how, *varying_like((x, table, bias, words, weight), x, table, bias, words))


def _groups(rows: int) -> int:
    """Parts of a batch that lie on devices of their own: each adds up the gradient of its rows.

    One sum for all would be sent between devices in every turn of the loop.
    """
    mesh = jax.sharding.get_abstract_mesh()
    auto = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    groups = 1
    for name in BATCH_AXES:
        if auto.get(name) == jax.sharding.AxisType.Auto:
            groups *= mesh.shape[name]
    return groups if rows % groups == 0 else 1


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(how, x, table, bias, words, weight):
    loss, right, _ = _over_blocks(how, x, table, bias, words, weight, _losses, sums=False)
    return (loss * weight).sum(), right


def _forward(how, x, table, bias, words, weight):
    # Half precision has room for weights of about 1, not for those of a mean over many words.
    scale = jnp.abs(weight).max(initial=0)
    scale = jnp.where(scale == 0, 1, scale)
    given = x, table, bias, words, weight / scale
    loss, right, sums = _over_blocks(how, *given, _gradients, sums=True)
    like = jnp.zeros(0, table.dtype)
    return ((loss * weight).sum(), right), (sums, scale, loss, like)


def _backward(how, residuals, cotangents):
    (dx, dtable, dbias), scale, loss, like = residuals
    g = cotangents[0] * scale
    dx = (g * dx.astype(g.dtype)).astype(dx.dtype)
    dtable = (g * dtable).astype(like.dtype)
    return dx, dtable, None if dbias is None else g * dbias, None, cotangents[0] * loss


_summed.defvjp(_forward, _backward)


def _over_blocks(how, x, table, bias, words, weight, of_block, *, sums):
    """Cross-entropies (B, T), which words are right, and gradients of x, table and bias.

    Each block has some positions of every row, however rows and positions lie over devices.
    """
    narrow = table.astype(x.dtype)
    wide = None if bias is None else bias.astype(weight.dtype)
    B, T = words.shape
    start = (narrow, wide) if sums else (None, None)
    start = jax.tree.map(lambda p: jnp.zeros((how.groups, *p.shape), weight.dtype), start)
    start = varying_like(start, x, narrow, wide, weight)

    def step(total, block):
        found, dx, more = of_block(how, narrow, wide, *block)
        return jax.tree.map(jnp.add, total, more), (*found, dx)

    if how.blocks == 1:
        total, (loss, right, dx) = step(start, (x, words, weight))
    else:
        size = -(-T // how.blocks)
        cut = lambda leaf: _cut(leaf, size, how.blocks)
        total, found = jax.lax.scan(step, start, jax.tree.map(cut, (x, words, weight)))
        join = lambda leaf: jnp.moveaxis(leaf, 0, 2).reshape(B, -1, *leaf.shape[3:])[:, :T]
        loss, right, dx = jax.tree.map(join, found)
    return loss, right, (dx, *jax.tree.map(lambda parts: parts.sum(0), total))


def _cut(leaf: Array, size: int, blocks: int) -> Array:
    """(B, T, ...) as (blocks, B, size, ...), padded with zeros."""
    B, T = leaf.shape[:2]
    pad = [(0, 0), (0, size * blocks - T), *[(0, 0)] * (leaf.ndim - 2)]
    return jnp.moveaxis(jnp.pad(leaf, pad).reshape(B, size, blocks, *leaf.shape[2:]), 2, 0)


def _logits(how, table, bias, x):
    logits = summed_wide(x, table, ((2,), (1 - how.axis,)))
    return logits if bias is None else logits + bias[None, None]


def _losses(how, table, bias, x, words, weight):
    """Without gradients."""
    return _read(how, _logits(how, table, bias, x), words)[:2], None, (None, None)


def _read(how, logits, words):
    """Cross-entropies, whether the words are the first of the likeliest ones, and what a gradient
    needs: reductions alone, which devices that have a part of the words each do by themselves."""
    index = jax.lax.broadcasted_iota(words.dtype, logits.shape, 2)
    own = index == words[..., None]
    peak = logits.max(axis=-1)
    lse = peak + jnp.log(jnp.exp(logits - peak[..., None]).sum(axis=-1))
    loss = lse - (1 - how.smoothing) * jnp.where(own, logits, 0).sum(axis=-1)
    if how.smoothing:
        loss -= how.smoothing * logits.mean(axis=-1)
    first = jnp.where(logits == peak[..., None], index, logits.shape[2]).min(axis=-1)
    return loss, first == words, (own, lse)


def _gradients(how, table, bias, x, words, weight):
    """With gradients, of the table and the bias by groups of rows."""
    logits = _logits(how, table, bias, x)
    loss, right, (own, lse) = _read(how, logits, words)
    d = jnp.exp(logits - lse[..., None]) - jnp.where(own, 1 - how.smoothing, 0)
    if how.smoothing:
        d -= how.smoothing / logits.shape[2]
    d *= weight[..., None]
    by_group = lambda a: a.reshape(how.groups, -1, *a.shape[1:])
    dbias = None if bias is None else by_group(d).sum(axis=(1, 2))
    d = d.astype(x.dtype)
    dx = summed_wide(d, table, ((2,), (how.axis,))).astype(x.dtype)
    one, other = (x, d) if how.axis else (d, x)
    dtable = summed_wide(by_group(one), by_group(other), ((1, 2), (1, 2)), ((0,), (0,)))
    return (loss, right), dx, (dtable, dbias)
