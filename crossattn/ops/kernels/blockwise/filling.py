"""A call whose sizes are not known, filled up to whole blocks: then any number of them fits."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks.mask import Mask
from crossattn.ops.sizes import all_known, up_to_blocks
from crossattn.shapes import Array

__all__ = ["Filling"]


class Filling(NamedTuple):
    """How many queries and keys there are, and up to how many they are filled.

    What is known is not filled: then everything here returns what it is given.
    """

    T: Any
    S: Any
    T_to: Any
    S_to: Any

    @classmethod
    def of(cls, T: Any, S: Any, blocks: BlockSizes) -> Filling:
        """Whole blocks of what is not known."""
        return cls(T, S, up_to_blocks(T, blocks.queries), up_to_blocks(S, blocks.keys))

    def call(self, call: AttentionCall) -> AttentionCall:
        """A call, filled."""
        mask, bias = self.mask(call.mask, call.q.shape[0]), self.pairs(call.bias)
        q, k, v = self.queries(call.q), self.keys(call.k), self.keys(call.v)
        return dataclasses.replace(call, q=q, k=k, v=v, mask=mask, bias=bias)

    def queries(self, x: Array | None, axis: int = 1, value: float = 0.0) -> Any:
        """An array with T entries on an axis, with more of `value`."""
        return None if x is None else _grown(x, axis, self.T_to - self.T, value)

    def keys(self, x: Array | None, axis: int = 1) -> Any:
        """An array with S entries on an axis, with more of 0."""
        return None if x is None else _grown(x, axis, self.S_to - self.S, 0.0)

    def pairs(self, x: Array | None) -> Any:
        """A bias (B|1, H|1, T|1, S|1) with more of 0."""
        if x is None:
            return None
        x = x if x.shape[2] == 1 else self.queries(x, 2)
        return x if x.shape[3] == 1 else self.keys(x, 3)

    def mask(self, mask: Mask, B: Any) -> Mask:
        """The mask, which shows nothing of what was filled in."""
        if all_known(self.T, self.S):
            return mask
        return mask.padded(B, self.T, self.S, self.T_to, self.S_to)

    def cut_queries(self, x: Array, axis: int) -> Array:
        """Results of the queries that there are."""
        return _cut(x, axis, self.T)

    def cut_keys(self, x: Array, axis: int) -> Array:
        """Results of the keys that there are."""
        return _cut(x, axis, self.S)

    def cut_pairs(self, x: Array | None) -> Any:
        """A bias as it was."""
        if x is None:
            return None
        x = x if x.shape[2] == 1 else self.cut_queries(x, 2)
        return x if x.shape[3] == 1 else self.cut_keys(x, 3)


def _cut(x: Array, axis: int, n: Any) -> Array:
    return x if all_known(n) else x[(slice(None),) * axis + (slice(n),)]


def _grown(x: Array, axis: int, by: Any, value: float) -> Array:
    if all_known(by) and by == 0:
        return x
    widths = [(0, by if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths, constant_values=value)
