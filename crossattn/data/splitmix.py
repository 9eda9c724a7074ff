"""Random numbers that are the same on every machine and with every version of NumPy.

SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014) is a hash
of a counter: a word can be drawn in order, or looked up at any place, in exact 64-bit integers.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["SplitMix64"]

Item = TypeVar("Item")
WORD = (1 << 64) - 1
STEP = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mix(word: int) -> int:
    word = ((word ^ (word >> 30)) * FIRST) & WORD
    word = ((word ^ (word >> 27)) * SECOND) & WORD
    return word ^ (word >> 31)


class SplitMix64:
    """A stream of 64-bit words named by a key of integers; equal keys, equal words.

    Example:
        >>> stream = SplitMix64(7, 1)
        >>> stream.pick("abc"), stream.below(10, 3).tolist()
        ('c', [6, 8, 0])
    """

    def __init__(self, *key: int):
        # The length of the key is its first part, so that (1,) and (1, 0) are different streams.
        self._state = 0
        for part in (len(key), *key):
            self._state = _mix((self._state + STEP + part) & WORD)

    def at(self, places: np.ndarray) -> np.ndarray:
        """Look up words: integer `places` of any shape to uint64 of that shape; state unchanged."""
        counter = np.atleast_1d(np.asarray(places)).astype(np.uint64) + np.uint64(1)
        word = counter * np.uint64(STEP) + np.uint64(self._state)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(FIRST)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(SECOND)
        return (word ^ (word >> np.uint64(31))).reshape(np.shape(places))

    def words(self, count: int) -> np.ndarray:
        """Draw the next `count` words, uint64."""
        drawn = self.at(np.arange(count))
        self._state = (self._state + STEP * count) & WORD
        return drawn

    def below(self, limit: int, count: int) -> np.ndarray:
        """Draw `count` integers from 0 to limit - 1 (limit below 2**31), int64."""
        high = self.words(count) >> np.uint64(32)
        return ((high * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)

    def pick(self, items: Sequence[Item]) -> Item:
        """Draw one of `items`."""
        self._state = (self._state + STEP) & WORD
        return items[((_mix(self._state) >> 32) * len(items)) >> 32]

    def order(self, count: int) -> np.ndarray:
        """Draw a permutation of 0 to count - 1, int64."""
        return np.argsort(self.words(count), kind="stable")
