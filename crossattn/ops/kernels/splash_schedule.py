"""Blocks of splash attention: their sizes, and which of them are visited in which order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.ops.kernels.private import PrivateModule
from crossattn.ops.masks import lowering
from crossattn.ops.masks.mask import Mask

__all__ = ["LANES", "ROWS", "KernelBlocks", "PassSizes", "schedule"]

library = PrivateModule(
    "jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_mask_info"
)
LANES = 128  # of a TPU's vector registers: blocks of keys are multiples of it
ROWS = 16  # of a bfloat16 tile: blocks of queries are multiples of it
# Blocks of a call whose order fits beside everything else into a TPU's memory for scalars, 1 MiB.
LARGEST_SCHEDULE = 2**16


@dataclasses.dataclass(frozen=True)
class KernelBlocks:
    """How many queries and keys one step of a kernel works on, at most.

    The defaults reach 77 % of the matrix unit's peak by the compiler's static schedule; fewer
    queries or keys make one smaller block. `interpret` runs the kernels without a TPU, slowly.
    """

    query: int = 512
    key: int = 1024
    interpret: bool = False

    def __post_init__(self) -> None:
        for name, step in (("query", ROWS), ("key", LANES)):
            size = getattr(self, name)
            if size < step or size % step:
                raise ValueError(f"KernelBlocks.{name} is a multiple of {step}, got {size}")


@dataclasses.dataclass(frozen=True)
class PassSizes:
    """Sizes of the blocks of one pass, and T and S padded to multiples of them."""

    query: int
    key: int
    T: int
    S: int

    @classmethod
    def of(cls, T: int, S: int, blocks: KernelBlocks, rows: int) -> PassSizes:
        """Blocks of queries are multiples of `rows`."""
        query, T = _even(T, max(blocks.query, rows), rows)
        key, S = _even(S, blocks.key, LANES)
        return cls(query, key, T, S)


def _even(n: int, most: int, step: int) -> tuple[int, int]:
    """Block and padded size: as few blocks of at most `most` as can be, and no larger than needed.

    >>> _even(4224, 1024, 128), _even(77, 1024, 128)
    ((896, 4480), (128, 128))
    """
    count = -(-n // most)
    block = -(-n // (count * step)) * step
    return block, count * block


def schedule(
    mask: Mask, T: int, S: int, cut: PassSizes, matched: Any, by_keys: bool = False
) -> tuple[Any, Callable[..., Any] | None]:
    """Which blocks a kernel visits in which order, and the function that masks within a block.

    `by_keys` is the order of the kernel of dk and dv: for each block of keys, blocks of queries.
    """
    window = lowering.static_band(mask, T, S)
    if window is None and cut.S > S and matched is None:
        window = lowering.StaticBand(-cut.T, cut.S, S)
    rows = None if window is None else np.arange(cut.T, dtype=np.int32)
    whole = library.MaskInfo(None, None, None, None, rows), window
    if cut.T // cut.query * (cut.S // cut.key) > LARGEST_SCHEDULE:
        return whole
    if matched is not None and matched[0].shape[0] == 1:
        some, _ = mask.blocks(1, T, S, cut.query, cut.key)
        own = np.arange(some.shape[1])[:, None] if by_keys else np.arange(some.shape[2])
        visit = jnp.where(some, jnp.asarray(own, jnp.int32)[None], 0)
        return library.MaskInfo(visit, None, some.astype(jnp.int32), None, rows), window
    if window is None:
        return whole
    kinds = window.kinds(cut.T, cut.S, cut.query, cut.key)
    if (kinds == 2).all():
        return library.MaskInfo(None, None, None, None, None), None
    steps = (x.T if by_keys else x for x in _skip(kinds.T if by_keys else kinds))
    order, run = (x[None] for x in steps)
    return library.MaskInfo(order, None, run, None, rows), window


def _skip(kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(blocks to visit, their kinds), each (rows, steps): what is visible of a row is contiguous.

    A row with fewer blocks than another waits at the first block of the next row, which is then
    there when it is needed; kind 0 says that nothing is computed.
    """
    count = (kinds > 0).sum(1)[:, None]
    first = (kinds > 0).argmax(1)[:, None]
    step = np.arange(max(1, count.max()))[None]
    visit = np.where(step < count, first + step, np.roll(first, -1, 0))
    kinds = np.where(step < count, np.take_along_axis(kinds, visit, 1), 0)
    return visit.astype(np.int32), kinds.astype(np.int32)
