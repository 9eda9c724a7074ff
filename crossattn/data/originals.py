"""The pictures or recordings behind the images of a part, each with a key of its own."""

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

__all__ = ["Originals", "key_of", "keys_of_pixels"]

AT_A_TIME = 64


class Originals(NamedTuple):
    """What an encoder of another house reads, in the order of the images of a part.

    Attributes:
      keys: (N,) uint64, equal for equal pictures.
      read: number of an image to the whole picture, (h, w, 3) uint8, or to the samples of a
        recording.
    """

    keys: np.ndarray
    read: Callable[[int], np.ndarray]


def key_of(content: bytes) -> int:
    """64 bits of a picture.

    >>> key_of(b"") == key_of(b"a")
    False
    """
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def keys_of_pixels(draw: Callable[[np.ndarray], np.ndarray], count: int) -> np.ndarray:
    """The keys of pictures that are drawn, (n,) numbers to (n, h, w, 3); a few at a time."""
    found: list[int] = []
    for start in range(0, count, AT_A_TIME):
        chosen = np.arange(start, min(start + AT_A_TIME, count))
        found += [key_of(np.ascontiguousarray(one).tobytes()) for one in draw(chosen)]
    return np.array(found, np.uint64)
