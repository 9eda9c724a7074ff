"""Ids are data: what they allow is decided when the program runs, for the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.ops.kernels import chunked
from crossattn.ops.kernels.cudnn.layouts import Ids, Packed
from crossattn.ops.kernels.cudnn.prefixes import prefix_packings
from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.masks import lowering

__all__ = ["Pass", "packed", "prefixes"]


class Pass(NamedTuple):
    """Forward or backward.

    Attributes:
      run: (layout, call, *given) -> results by cuDNN.
      blocks: (kernel, call, *given) -> the same by `chunked`.
      joined: results of calls over disjoint keys -> those over all of them.
    """

    run: Callable[..., Any]
    blocks: Callable[..., Any]
    joined: Callable[[list[Any]], Any]

    def chunked(self, call: AttentionCall, *given: Any) -> Any:
        """By `chunked`, as on a GPU."""
        return self.blocks(chunked.KERNEL.fitted("cuda", call), call, *given)


def packed(way: Pass, call: AttentionCall, *given: Any) -> Any:
    """Runs are read where they stand, without a copy where nothing is hidden.

    Ids that are scattered are sorted first. More runs than there is room for go to `chunked`.
    """
    ids = Ids.of(call)
    packing = ids.packing()
    causal = lowering.static_band(call.mask, call.T, call.S) is not None

    def standing(whole: bool) -> Any:
        return way.run(Packed.of(call, packing, None, whole), call, *given)

    def blocks() -> Any:
        return way.chunked(call, *given)

    def ordered() -> Any:
        runs, *order = ids.ordered()
        there = runs.packing()
        side_by_side = lambda: way.run(Packed.of(call, there, order), call, *given)
        return jax.lax.cond(there.fits.all(), side_by_side, blocks)

    # In another order, causal(0) would hide other keys.
    fits = (packing.fits & packing.aligned if causal else packing.fits).all()
    index = jnp.where(fits, jnp.where(packing.whole, 0, 1), 2)
    branches = [lambda: standing(True), lambda: standing(False), blocks if causal else ordered]
    return jax.lax.switch(index, branches)


def prefixes(way: Pass, call: AttentionCall, *given: Any) -> Any:
    """Images in their order, or else `chunked`."""
    packings, fits = prefix_packings(Ids.of(call))

    def powers() -> Any:
        return way.joined([way.run(Packed.of(call, x, None), call, *given) for x in packings])

    return jax.lax.cond(fits, powers, lambda: way.chunked(call, *given))
