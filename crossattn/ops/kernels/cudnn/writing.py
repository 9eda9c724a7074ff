"""A bias and masks written out for T x S in half precision, as cuDNN adds them to the scores.

What is hidden is a number so low that its weight is exactly 0 beside any key that is seen; -inf
would make NaN of a block of which nothing is seen. Queries that see no key at all are told apart by
`rows`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["WrittenScores", "refuse_size", "written_shape"]

# What jax hides keys with in bfloat16. float16 ends at -65504, which large scores reach.
LOWEST = -(2.0**41)
# Entries that may be written out where less was given: 32 MiB.
FEW_ENTRIES = 2**24


class WrittenScores(NamedTuple):
    """What is added to the scores, and who takes part.

    >>> x = jnp.zeros((1, 2, 1, 8), jnp.bfloat16)
    >>> from crossattn import Mask
    >>> call = AttentionCall(x, x, x, Mask.causal(-1), None, None, 1.0, None)
    >>> written = WrittenScores.of(call)
    >>> (written.added == 0).astype(int).tolist(), written.rows.tolist()
    ([[[[0, 0], [1, 0]]]], [[[False], [True]]])
    """

    added: Array  # (B|1, H|1, T, S) in the dtype of the queries
    visible: Array  # booleans that broadcast to it
    rows: Array  # booleans (B|1, T, H|1): queries that see a key
    keys: Array  # booleans (B|1, S, K|1): keys that a query sees

    @classmethod
    def of(cls, call: AttentionCall) -> WrittenScores:
        """Of the mask and the bias of a call."""
        B, T, S, _, K = call.sizes
        visible, bias = call.mask.visible(B, T, S), call.bias
        if bias is not None:
            visible = visible & (bias != -jnp.inf)
        shape = written_shape(call)
        added = jnp.where(visible, 0 if bias is None else bias, LOWEST).astype(call.q.dtype)
        every = jnp.broadcast_to(visible, shape)
        b, h = shape[:2]
        by_key = every.reshape(b, K if h > 1 else 1, -1, S).any(2)
        return cls(
            jnp.broadcast_to(added, shape),
            visible,
            every.any(3).swapaxes(1, 2),
            by_key.swapaxes(1, 2),
        )

    def padded(self, T: int, S: int) -> Array:
        """`added` for so many queries and keys; further ones are hidden."""
        more = [(0, 0), (0, 0), (0, T - self.added.shape[2]), (0, S - self.added.shape[3])]
        return jnp.pad(self.added, more, constant_values=LOWEST)

    def bias_gradient(self, ds: Array, bias: Array) -> Array:
        """Gradient of a bias from that of the (padded) scores, summed over the axes it lacks."""
        *_, T, S = self.added.shape
        ds = jnp.where(self.visible, ds[:, :, :T, :S], 0)
        lacks = tuple(axis for axis, n in enumerate(bias.shape) if n == 1 and ds.shape[axis] != 1)
        return ds.sum(lacks, dtype=precision(ds.dtype), keepdims=True).astype(bias.dtype)


def written_shape(call: AttentionCall) -> tuple[int, int, int, int]:
    """(B|1, H|1, T, S) of what a call's mask and bias are written out to."""
    B, T, S, *_ = call.sizes
    shapes = [(1, 1, T, S), jax.eval_shape(lambda m: m.visible(B, T, S), call.mask).shape]
    if call.bias is not None:
        shapes.append(call.bias.shape)
    b, h, *_ = (max(n) for n in zip(*shapes, strict=True))
    return b, h, T, S


def refuse_size(call: AttentionCall) -> str | None:
    """Why a call's mask and bias are not written out: more than was given, and not a little."""
    shape = written_shape(call)
    leaves = jax.tree.leaves((call.mask, call.bias))
    given = sum(math.prod(x.shape) for x in leaves if getattr(x, "ndim", 0) == 4)
    if math.prod(shape) <= max(FEW_ENTRIES, given):
        return None
    return f"{list(shape)} is more than {FEW_ENTRIES} entries to write out"
