"""One block of queries and keys of a pass that knows the log-sum-exp."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.blockwise.products import inner
from crossattn.ops.kernels.blockwise.tiles import Tile
from crossattn.shapes import Array

__all__ = [
    "ScoreBlock",
    "Sums",
    "added",
    "finished",
    "matmul",
    "read_block",
    "shift_or_zero",
    "zeros",
]


class Sums(NamedTuple):
    """Of the visible keys of a query; (B, H, T), and 0 where no key is visible.

    None: not asked for. Where loops are nested XLA would carry through them what nobody reads.
    """

    total: Any  # the sum of e = exp(x), x = score - shift
    mean: Any  # of x under the weights e / total; without a gradient
    entropy: Any  # of the weights, in nats: log total - mean
    top: Any  # the largest x; -inf where no key is visible
    columns: Any  # the sums of e column, (B, H, T, R); None without columns
    visible: Any  # how many there are, int32
    at: Any  # the first key that has the largest x, int32

    def only(self, parts: Collection[str]) -> Sums:
        """The same without what is not named."""
        return Sums(*(x if n in parts else None for n, x in self._asdict().items()))


class ScoreBlock(NamedTuple):
    """Of queries and keys; what nobody in it sees is 0 (it may hold NaN, and 0 * NaN is NaN)."""

    q: Any  # (b, k, rows, D), as Tile reads it
    k: Any  # (b, k, keys, D)
    columns: Any  # (b, keys, R)
    visible: Any  # (b|1, k|1, rows|1, keys); None: all
    x: Any  # (b, k, rows, keys), score - shift, 0 where invisible
    e: Any  # (b, k, rows, keys), exp(x), 0 where invisible
    slope: Any  # of the soft-cap, None without one
    places: Any  # (b|1, 1, 1, keys), which keys they are


def read_block(
    tile: Tile, masked: bool, q: Array, shift: Array, columns: Array | None
) -> ScoreBlock:
    """The block of the tile, of whose queries `q` (b, k, rows, D) and `shift` (b, k, rows)."""
    call, shift = tile.grid.call, shift[..., None]
    scale, softcap = call.scale, call.softcap
    visible, added, k = tile.block(masked, call.k)
    if columns is not None:
        columns = tile.columns(columns)
    if visible is not None:
        q = jnp.where(visible.any(3, keepdims=True), q, 0)
        if columns is not None:
            columns = jnp.where(visible.any((1, 2))[..., None], columns, 0)
        visible = jnp.broadcast_to(visible, (*visible.shape[:3], k.shape[2]))
    # No product is added to: it would be rounded in one reader of x and not in another, where XLA
    # computes x twice, and then no key has the largest x. So scale and soft-cap stand outside.
    x, slope = matmul(q * scale, k.swapaxes(2, 3)), None
    # A bias is near the shift where both are large, and then their difference is exact.
    moved = -shift if added is None else added.astype(x.dtype) - shift
    if softcap is None:
        x = x + moved
    else:
        capped = jnp.tanh(x / softcap)
        x, slope = (capped + moved / softcap) * softcap, 1 - capped * capped
    places = tile.places[:, None, None]
    if visible is None:
        return ScoreBlock(q, k, columns, None, x, jnp.exp(x), slope, places)
    e = jnp.where(visible, jnp.exp(x), 0)
    return ScoreBlock(q, k, columns, visible, jnp.where(visible, x, 0), e, slope, places)


def added(now: Sums, block: ScoreBlock) -> Sums:
    """The sums with those of one more block; blocks come in any order. `mean` is one of e x yet."""
    x, e, visible = block.x, block.e, block.visible
    total, mean, _, top, columns, count, at = now
    if mean is not None:
        mean = mean + inner(e, x)
    if top is not None:
        top, at = _top(top, at, x if visible is None else jnp.where(visible, x, -jnp.inf), block)
    if columns is not None:
        mass = matmul(e.reshape(x.shape[0], -1, x.shape[3]), block.columns)
        columns = columns + mass.reshape(columns.shape)
    if count is not None:
        more = jnp.int32(x.shape[3]) if visible is None else visible.sum(3, dtype=jnp.int32)
        count = count + jnp.broadcast_to(more, count.shape)
    return Sums(total + e.sum(3), mean, None, top, columns, count, at)


def _top(old: Array, at: Array, x: Array, block: ScoreBlock) -> tuple[Array, Array]:
    """The largest x so far and the first key that has it."""
    top = x.max(3)
    # argmax took as long as the rest of the pass on a CPU.
    new = jnp.where(x == top[..., None], block.places, jnp.iinfo(jnp.int32).max).min(3)
    at = jnp.where(top < old, at, jnp.where(top > old, new, jnp.minimum(new, at)))
    return jnp.maximum(old, top), at


def finished(now: Sums, parts: Collection[str]) -> Sums:
    """Of all blocks, what is asked for."""
    if now.mean is not None:
        total = jnp.where(now.total == 0, 1, now.total)
        mean = now.mean / total
        now = now._replace(mean=mean, entropy=jnp.log(total) - mean)
    return now.only(parts)


def shift_or_zero(shift: Array) -> Array:
    """0 where it is -inf: there no key is visible."""
    return jnp.where(shift == -jnp.inf, 0, shift)


def zeros(parts: Collection[str], shift: Array, columns: Array | None) -> Sums:
    """What is asked for of no block."""
    zero, none = jnp.zeros_like(shift), jnp.zeros(shift.shape, jnp.int32)
    mass = None if columns is None else jnp.zeros((*shift.shape, columns.shape[2]), shift.dtype)
    return Sums(zero, zero, zero, jnp.full_like(shift, -jnp.inf), mass, none, none).only(parts)


def matmul(a: Array, b: Array) -> Array:
    """(.., n, m) x (.., m, l). HIGHEST: the default is TF32 on GPUs, bfloat16 on TPUs."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
