"""Blocks of a call: how they are read and written.

A group is `examples` x `heads`; for each group and block of queries the keys are visited block by
block. A ragged last block is read from further left, so that all blocks have one shape; what it
then shares with its neighbour counts as invisible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.blockwise.grid import Grid
from crossattn.ops.kernels.blockwise.slices import (
    gather_rows,
    put_slice,
    repeat,
    scatter_rows,
    slice_of,
)
from crossattn.ops.masks.parts import Span
from crossattn.ops.reference import precision
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array

__all__ = ["Grid", "Tile", "over_queries"]


def over_queries(grid: Grid, body: Callable[[Tile, Any], Any], results: Any) -> Any:
    """`results = body(tile, results)` for every group and every block of its queries."""
    B, *_, K = grid.call.sizes
    across = K // grid.blocks.heads

    def group(g, results):
        b, h = g // across, g % across
        return repeat(grid.counts[0], lambda i, r: body(Tile(grid, b, h, i), r), results)

    return repeat(B // grid.blocks.examples * across, group, results)


@dataclasses.dataclass(frozen=True)
class Tile:
    """Group b (of examples), h (of heads), block i of queries and, while keys are visited, j."""

    grid: Grid
    b: Any
    h: Any
    i: Any
    j: Any = 0

    def over_keys(self, body: Callable[[Tile, bool, Any], Any], carry: Any) -> Any:
        """`carry = body(tile, masked, carry)` for every block of keys of which some is visible."""
        grid, (_, n) = self.grid, self.grid.counts
        at = lambda j, masked: lambda c: body(dataclasses.replace(self, j=j), masked, c)
        if not grid.masked and not any(grid.ragged):
            return repeat(n, lambda j, c: at(j, False)(c), carry)
        if all_known(n) and n <= 1:
            return repeat(n, lambda j, c: at(j, True)(c), carry)
        b = 0 if grid.order.shape[0] == 1 else self.b
        visit = lambda masked: lambda m, c: at(grid.order[b, self.i, m], masked)(c)
        full, some = grid.full[b, self.i], grid.some[b, self.i]
        if grid.call.bias is None:
            carry = jax.lax.fori_loop(jnp.int32(0), full, visit(False), carry)
        return jax.lax.fori_loop(full, some, visit(True), carry)

    # Where the tile lies: a ragged last block starts further left.

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        """Examples, key heads, query heads to each, queries of a tile."""
        (*_, H, K), blocks = self.grid.call.sizes, self.grid.blocks
        return blocks.examples, blocks.heads, H // K, blocks.queries

    @property
    def _row(self) -> Any:
        T, block = self.grid.call.T, self.grid.blocks.queries
        return jnp.minimum(self.i * block, T - block) if self.grid.ragged[0] else self.i * block

    @property
    def _column(self) -> Any:
        S, block = self.grid.call.S, self.grid.blocks.keys
        return jnp.minimum(self.j * block, S - block) if self.grid.ragged[1] else self.j * block

    def _fresh_rows(self) -> Array:
        at = self._row + jnp.arange(self.grid.blocks.queries, dtype=jnp.int32)
        return at >= self.i * self.grid.blocks.queries

    def _fresh_columns(self) -> Array:
        at = self._column + jnp.arange(self.grid.blocks.keys, dtype=jnp.int32)
        return at >= self.j * self.grid.blocks.keys

    @property
    def places(self) -> Array:
        """Which keys they are, int32 (examples|1, keys); S and beyond: none."""
        tk, places = self.grid.blocks.keys, self.grid.places
        if places is None:
            return (self._column + jnp.arange(tk, dtype=jnp.int32))[None]
        b, nb = (self.b, self.grid.blocks.examples) if places.shape[0] != 1 else (0, 1)
        return slice_of(places, (b * nb, self._column), (nb, tk))

    # Reading: heads first, query heads that share a key head as rows of one product.

    def queries(self, x: Array) -> Array:
        """x (B, T, H, X) at the tile: (examples, heads, rows, X)."""
        nb, nk, G, tq = self._sizes
        start = (self.b * nb, self._row, self.h * nk * G, 0)
        part = slice_of(x, start, (nb, tq, nk * G, x.shape[3]))
        return self._product(part.swapaxes(1, 2).reshape(nb, nk, G * tq, x.shape[3]))

    def keys(self, x: Array) -> Array:
        """x (B, S, K, X) at the tile: (examples, heads, keys, X)."""
        nk = self.grid.blocks.heads
        return self._product(self._read_keys(x, self.h * nk, nk).swapaxes(1, 2))

    def columns(self, x: Array) -> Array:
        """x (B, S, R) at the tile: (examples, keys, R)."""
        return self._read_keys(x[:, :, None], 0, 1)[:, :, 0]

    def _read_keys(self, x: Array, head: Any, heads: int) -> Array:
        """x (B, S, K, X) at the tile's keys and some heads: (examples, keys, heads, X)."""
        blocks = self.grid.blocks
        start = (self.b * blocks.examples, self._column, head, 0)
        sizes = (blocks.examples, blocks.keys, heads, x.shape[3])
        if self.grid.places is None:
            return slice_of(x, start, sizes)
        return gather_rows(x, start, sizes, self.places)

    def rows(self, x: Array) -> Array:
        """x (B, H, T) at the tile: (examples, heads, rows)."""
        nb, nk, G, tq = self._sizes
        start = (self.b * nb, self.h * nk * G, self._row)
        return slice_of(x, start, (nb, nk * G, tq)).reshape(nb, nk, G * tq)

    def block(self, masked: bool, *keyed: Array) -> Any:
        """What is visible, the bias (both None where all is visible), and of arrays (B, S, K, X).

        What none of its queries sees is 0 there: it may hold NaN, and 0 * NaN is NaN.
        """
        visible, bias = self.pairs() if masked else (None, None)
        here = (self.keys(x) for x in keyed)
        if visible is not None:
            seen = visible.any(2)[..., None]
            here = (jnp.where(seen, x, 0) for x in here)
        return visible, bias, *here

    def pairs(self) -> tuple[Array, Array | None]:
        """What of the tile is visible, and its bias: (examples|1, heads|1, rows|1, keys|1)."""
        call, (nb, nk, G, tq) = self.grid.call, self._sizes
        (B, T, S, *_), mask, bias, tk = call.sizes, call.mask, call.bias, self.grid.blocks.keys
        own = jax.tree.map(
            lambda x: (
                jax.lax.dynamic_slice_in_dim(x, self.b * nb, nb, 0)
                if jnp.ndim(x) and x.shape[0] == B != nb
                else x
            ),
            mask,
        )
        visible = own.visible(nb, T, S, Span(self._row, tq), Span(self._column, tk))
        if visible.shape[1] > nk * G:
            start = jnp.asarray(self.h * nk * G, jnp.int32)
            visible = jax.lax.dynamic_slice_in_dim(visible, start, nk * G, 1)
        if self.grid.ragged[0]:
            visible = visible & self._fresh_rows()[None, None, :, None]
        if self.grid.ragged[1]:
            visible = visible & self._fresh_columns()[None, None, None, :]
        if bias is None:
            return self._grouped(visible), None
        part = slice_of(bias, *self._of_pairs(bias.shape))
        return self._grouped(visible & (part != -jnp.inf)), self._grouped(part)

    def dropped(self, p: Array, keys_first: bool = False) -> Array:
        """Weights p of the tile, as its scores lie, some 0 and the others grown; p without dropout.

        `keys_first`: p is (examples, heads, keys, rows).
        """
        dropout, (nb, nk, G, tq) = self.grid.call.dropout, self._sizes
        if dropout is None:
            return p
        own = dropout.part((self.b * nb, self.h * nk * G), (nb, nk * G))
        stays = own.keeps(self._row + jnp.arange(tq, dtype=jnp.int32), self.places)
        stays = stays.reshape(nb, nk, G * tq, stays.shape[3])
        stays = stays.swapaxes(2, 3) if keys_first else stays
        return jnp.where(stays, p * dropout.growth, 0)

    # Writing.

    def write_queries(self, out: Array, x: Array, add: bool = False) -> Array:
        """x (examples, heads, rows, X) into out (B, T, H, X), or added to what is there."""
        nb, nk, G, tq = self._sizes
        x = x.reshape(nb, nk * G, tq, x.shape[3]).swapaxes(1, 2).astype(out.dtype)
        start = (self.b * nb, self._row, self.h * nk * G, 0)
        if add or self.grid.ragged[0]:
            old = slice_of(out, start, x.shape)
            x = x + old if add else x
            x = jnp.where(self._fresh_rows()[None, :, None, None], x, old)
        return put_slice(out, x, start)

    def write_rows(self, out: Array, x: Array) -> Array:
        """x (examples, heads, rows) into out (B, H, T)."""
        nb, nk, G, tq = self._sizes
        x, start = x.reshape(nb, nk * G, tq), (self.b * nb, self.h * nk * G, self._row)
        if self.grid.ragged[0]:
            x = jnp.where(self._fresh_rows()[None, None], x, slice_of(out, start, x.shape))
        return put_slice(out, x, start)

    def add_keys(self, out: Array, x: Array, add: bool = False) -> Array:
        """x (examples, heads, keys, X) added to out (B, S, K, X), which is 0 unless `add`."""
        return self._add_keys(out, x.swapaxes(1, 2), self.h * self._sizes[1], add)

    def add_columns(self, out: Array, x: Array) -> Array:
        """x (examples, keys, R) added to out (B, S, R)."""
        return self._add_keys(out[:, :, None], x[:, :, None], 0, True)[:, :, 0]

    def _add_keys(self, out: Array, x: Array, head: Any, add: bool) -> Array:
        x = x.astype(out.dtype)
        if add or not self.grid.written_once:
            x = x + self._read_keys(out, head, x.shape[2])
        start = (self.b * self.grid.blocks.examples, self._column, head, 0)
        if self.grid.places is None:
            return put_slice(out, x, start)
        return scatter_rows(out, x, start, self.places)

    def add_pairs(self, out: Array, x: Array) -> Array:
        """x (examples, heads, rows, keys) added to out (B|1, H|1, T|1, S|1), summed as it needs."""
        nb, nk, G, tq = self._sizes
        axes = tuple(axis for axis, n in enumerate(out.shape) if n == 1)
        x = x.reshape(nb, nk * G, tq, x.shape[3]).sum(axes, keepdims=True)
        start, _ = self._of_pairs(out.shape)
        return put_slice(out, x + slice_of(out, start, x.shape), start)

    def _of_pairs(self, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
        """Start and sizes of the tile in an array (B|1, H|1, T|1, S|1)."""
        nb, nk, G, tq = self._sizes
        start = (self.b * nb, self.h * nk * G, self._row, self._column)
        sizes = (nb, nk * G, tq, self.grid.blocks.keys)
        full = [n != 1 for n in shape]
        return (
            tuple(x if f else 0 for x, f in zip(start, full, strict=True)),
            tuple(n if f else 1 for n, f in zip(sizes, full, strict=True)),
        )

    def _grouped(self, x: Array) -> Array:
        """(examples|1, query heads|1, queries|1, keys|1) as the scores of the tile lie."""
        _, nk, G, tq = self._sizes
        b, h, t, c = x.shape
        if G == 1 or (h == 1 and t == 1):
            return x
        shape = (b, 1, G, tq, c) if h == 1 else (b, nk, G, tq, c)
        x = x[:, :, None] if h == 1 else x.reshape(b, nk, G, t, c)
        return jnp.broadcast_to(x, shape).reshape(b, shape[1], G * tq, c)

    def _product(self, x: Array) -> Array:
        return x.astype(self.grid.blocks.products or precision(x.dtype))
