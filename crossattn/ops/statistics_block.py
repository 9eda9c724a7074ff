"""One block of queries and keys of a pass that knows the log-sum-exp."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.tiles import Tile
from crossattn.shapes import Array

__all__ = ["Block", "add_columns", "dot", "read"]


class Block(NamedTuple):
    """Of queries and keys; what nobody in it sees is 0 (it may hold NaN, and 0 * NaN is NaN)."""

    q: Any  # (b, k, rows, D), as Tile reads it
    k: Any  # (b, k, keys, D)
    columns: Any  # (b, keys, R)
    visible: Any  # (b|1, k|1, rows|1, keys); None: all
    x: Any  # (b, k, rows, keys), score - shift, 0 where invisible
    e: Any  # (b, k, rows, keys), exp(x), 0 where invisible
    slope: Any  # of the soft-cap, None without one
    places: Any  # (1, 1, 1, keys), which keys they are


def read(
    tile: Tile,
    masked: bool,
    q: Array,
    shift: Array,
    columns: Array | None,
    *,
    scale: float,
    softcap: float | None,
) -> Block:
    """The block of the tile, of whose queries `q` (b, k, rows, D) and `shift` (b, k, rows)."""
    _, k, _, _, bias = tile.grid.inputs
    k, shift = tile.keys(k), shift[..., None]
    visible, added = tile.pairs(bias) if masked else (None, None)
    if columns is not None:
        columns = _columns(tile, columns)
    if visible is not None:
        visible = jnp.broadcast_to(visible, (*visible.shape[:3], k.shape[2]))
        seen = tile.seen_keys(visible)
        q, k = jnp.where(visible.any(3, keepdims=True), q, 0), jnp.where(seen, k, 0)
        if columns is not None:
            columns = jnp.where(seen.any(1), columns, 0)
    # No product is added to: it would be rounded in one reader of x and not in another, where XLA
    # computes x twice, and then no key has the largest x. So scale and soft-cap stand outside.
    x, slope = dot(q * scale, k.swapaxes(2, 3)), None
    # A bias is near the shift where both are large, and then their difference is exact.
    moved = -shift if added is None else added.astype(x.dtype) - shift
    if softcap is None:
        x = x + moved
    else:
        capped = jnp.tanh(x / softcap)
        x, slope = (capped + moved / softcap) * softcap, 1 - capped * capped
    places = (_first(tile) + jnp.arange(k.shape[2], dtype=jnp.int32))[None, None, None]
    if visible is None:
        return Block(q, k, columns, None, x, jnp.exp(x), slope, places)
    e = jnp.where(visible, jnp.exp(x), 0)
    return Block(q, k, columns, visible, jnp.where(visible, x, 0), e, slope, places)


def _first(tile: Tile) -> Any:
    """The first key of the tile; a ragged last block starts further left."""
    S, block = tile.grid.inputs[1].shape[1], tile.grid.blocks.keys
    return jnp.minimum(jnp.asarray(tile.j, jnp.int32) * block, S - block)


def _columns(tile: Tile, columns: Array) -> Array:
    """(B, S, R) at the tile: (examples, keys, R)."""
    blocks = tile.grid.blocks
    start = (jnp.int32(tile.b * blocks.examples), _first(tile), jnp.int32(0))
    return jax.lax.dynamic_slice(columns, start, (blocks.examples, blocks.keys, columns.shape[2]))


def add_columns(tile: Tile, out: Array, x: Array) -> Array:
    """x (examples, keys, R) added to out (B, S, R)."""
    start = (jnp.int32(tile.b * tile.grid.blocks.examples), _first(tile), jnp.int32(0))
    return jax.lax.dynamic_update_slice(out, x + _columns(tile, out), start)


def dot(a: Array, b: Array) -> Array:
    """(.., n, m) x (.., m, l). HIGHEST: the default is TF32 on GPUs, bfloat16 on TPUs."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
