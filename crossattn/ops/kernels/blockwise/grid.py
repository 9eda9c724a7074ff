"""A call cut into blocks: which of them are visited.

Keys hidden one by one leave no block empty. Where nothing else decides, blocks are those of the
visible keys alone, read and written one by one wherever they lie.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks.lowering import gather_visible
from crossattn.ops.reference import precision
from crossattn.ops.sizes import all_known
from crossattn.ops.varying import varying_like

__all__ = ["Grid"]


@dataclasses.dataclass(frozen=True)
class Grid:
    """A call cut into blocks; `order`, `full` and `some` say which blocks of keys to visit."""

    call: AttentionCall
    blocks: BlockSizes
    order: Any  # (B / examples | 1, nT, nS): the full blocks of keys first, then those with some
    full: Any  # (B / examples | 1, nT): how many are full
    some: Any  # (B / examples | 1, nT): how many hold a visible pair
    places: Any = None  # (B|1, S): where the keys lie of which blocks consist; None: in order

    @classmethod
    def of(cls, call: AttentionCall, blocks: BlockSizes) -> Grid:
        """Cut the call; which blocks to visit is found from the mask without a T x S array."""
        (B, T, S, *_), mask, bias, places = call.sizes, call.mask, call.bias, None
        if bias is None and not (all_known(S) and blocks.keys >= S):
            mask, places = gather_visible(mask, B, T, S)
        some, full = mask.blocks(B, T, S, blocks.queries, blocks.keys)
        if bias is not None:
            full = jnp.zeros_like(full)  # its entries of -inf hide
        if some.shape[0] == B:
            grouped = (B // blocks.examples, blocks.examples, *some.shape[1:])
            some, full = some.reshape(grouped).any(1), full.reshape(grouped).all(1)
        order = jnp.argsort(jnp.where(full, 0, jnp.where(some, 1, 2)), axis=2, stable=True)
        order, full, some = (x.astype(jnp.int32) for x in (order, full.sum(2), some.sum(2)))
        return cls(dataclasses.replace(call, mask=mask), blocks, order, full, some, places)

    @property
    def masked(self) -> bool:
        """Whether anything at all may be invisible."""
        return bool(self.call.mask.terms) or self.call.bias is not None

    @property
    def counts(self) -> tuple[int, int]:
        """How many blocks of queries and of keys there are."""
        return -(-self.call.T // self.blocks.queries), -(-self.call.S // self.blocks.keys)

    @property
    def ragged(self) -> tuple[bool, bool]:
        """Whether the last block of queries, of keys, is smaller than the others."""
        return self.call.T % self.blocks.queries > 0, self.call.S % self.blocks.keys > 0

    def alike(self, x: Any) -> Any:
        """A loop's first carry, declared to vary over the mesh axes over which the inputs vary."""
        return varying_like(x, self.call)

    def sum_dtype(self, dtype: Any) -> Any:
        """In what to sum over blocks of queries; nothing is summed where there is one."""
        return dtype if self.written_once else precision(dtype)

    @property
    def written_once(self) -> bool:
        """Whether keys are written once, and nothing is summed there."""
        return self.counts[0] == 1 and not self.ragged[1]
