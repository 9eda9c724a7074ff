"""Sizes of the blocks that `chunked` works on, chosen by shape."""

from __future__ import annotations

import dataclasses

from crossattn.ops.numbers import checked_integer
from crossattn.ops.sizes import all_known

__all__ = ["BlockSizes"]


@dataclasses.dataclass(frozen=True)
class BlockSizes:
    """Sizes of the blocks that `chunked` works on.

    Attributes:
      examples: how many of the batch at once; a divisor of B.
      heads: how many key heads at once, with the query heads that share them; a divisor of K.
      queries: block of queries, at most T.
      keys: block of keys, at most S.
      products: dtype in which blocks are multiplied, None for the softmax's (float32 or float64);
        sums are always in the latter.

    >>> BlockSizes(examples=1, heads=3, queries=5, keys=7)
    BlockSizes(examples=1, heads=3, queries=5, keys=7, products=None)
    """

    examples: int
    heads: int
    queries: int
    keys: int
    products: str | None = None

    def __post_init__(self):
        for name in ("examples", "heads", "queries", "keys"):
            checked_integer(f"BlockSizes.{name}", getattr(self, name))
        if self.products not in (None, "float64", "float32", "bfloat16", "float16"):
            raise ValueError(
                f"BlockSizes.products is a dtype's name or None, got {self.products!r}"
            )

    def fitted(self, B: int, T: int, S: int, K: int) -> BlockSizes:
        """The same, none larger than what there is; ValueError where they do not divide it."""
        for name, block, n in (("examples", self.examples, B), ("heads", self.heads, K)):
            if n % block if all_known(n) else block > 1:
                raise ValueError(
                    f"BlockSizes.{name}={block} is not a divisor of {n}: write a divisor"
                )
        queries, keys = (
            min(block, max(n, 1)) if all_known(n) else block
            for block, n in ((self.queries, T), (self.keys, S))
        )
        return dataclasses.replace(self, queries=queries, keys=keys)

    @classmethod
    def for_cpu(cls, B: int, T: int, S: int, H: int, K: int, local: bool = False) -> BlockSizes:
        """Scores of a block stay in the cache of one core: about 2^15 to 2^17 of them.

        Few queries: all heads at once, since a block of keys (S, K, D) is contiguous then. Many:
        one key head at a time, which leaves room for a block in which products are efficient. But
        where the mask is `local` (`Mask.local`) blocks are small: of a large one little is visible.
        """
        keys, G = max(min(S, 256), 1), H // K
        if local and T > 128:
            return cls(1, _divisor(K, max(2 // G, 1)), 128, min(keys, 128))
        if T > 128:
            queries = min(T, 1024, max(128, 2**17 // (keys * G)))
            return cls(1, 1, queries, keys)
        if S > 256:
            keys = min(S, max(64, 2**15 // (H * T) // 64 * 64))
        queries = max(T, 1)
        heads = _divisor(K, 2**16 // (G * queries * keys))
        examples = _divisor(max(B, 1), 2**14 // (H * queries * keys)) if heads == K else 1
        return cls(examples, heads, queries, keys)

    @classmethod
    def for_few_keys(cls, B: int, T: int, S: int, H: int, K: int) -> BlockSizes:
        """All keys and heads at once, and so many queries that a core's cache holds them."""
        keys = max(S, 1)
        queries = max(min(T, 256, 2**19 // (H * keys)), 1)
        return cls(_divisor(max(B, 1), 2**17 // (H * queries * keys)), K, queries, keys)

    @classmethod
    def for_accelerator(cls, B: int, T: int, S: int, K: int, products: str) -> BlockSizes:
        """All examples and heads at once, for a device that is wide: few trips of the loops."""
        return cls(max(B, 1), K, max(min(T, 1024), 1), max(min(S, 1024), 1), products)

    @classmethod
    def for_any_size(cls, B: int, T: int, S: int, K: int) -> BlockSizes:
        """Where B, T or S is not known: no larger than what is, see `any_size`."""
        return cls(1, max(K, 1), 128, 256).fitted(B, T, S, K)


def _divisor(n: int, at_most: int) -> int:
    return next(d for d in range(max(1, min(n, at_most)), 0, -1) if n % d == 0)
