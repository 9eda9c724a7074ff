"""A digest of arrays: the same on every mesh, however many processes hold them."""

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from crossattn.train.multihost import all_gather

MODULUS = 2**64


def digest(tree: Any, about: str = "") -> str:
    """Sixteen hexadecimal digits that change with any bit of any array of a tree.

    Every 32-bit word is multiplied by an odd number that belongs to its place, and all products are
    added modulo 2**64. One changed word always changes the sum, since an odd factor takes no
    difference to zero; of many changes one in about 2**32 is missed. A sum does not depend on the
    order: each process adds what it holds, so that nothing is moved and nothing is compiled.

    Args:
      tree: arrays, or numbers.
      about: what else the digest stands for.

    Example:
      >>> digest({"w": np.zeros(3)}) == digest({"w": np.array([0.0, 0.0, -0.0])})
      False
    """
    here = sum(
        _sum(name_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    )
    # Halves, since JAX has no 64-bit integers by default.
    halves = np.array([here % 2**32, here // 2**32 % 2**32], np.uint32)
    total = sum(int(low) + (int(high) << 32) for low, high in all_gather(halves))
    return f"{(total + _seed(about)) % MODULUS:016x}"


def name_of(path: Any) -> str:
    """The place of a leaf in a tree, in words that no version of JAX changes."""
    kinds = ("name", "key", "idx")
    return "/".join(
        str(next(getattr(key, kind) for kind in kinds if hasattr(key, kind))) for key in path
    )


def _sum(name: str, leaf: Any) -> int:
    """What this process counts of an array."""
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        name, leaf = f"{name} {leaf.dtype}", jax.random.key_data(leaf)
    total = 0
    for starts, part in _parts(leaf):
        # Larger elements become several words, which are neighbours along the last axis.
        words = part.view(f"u{min(part.dtype.itemsize, 4)}")
        scales = [*[1] * (part.ndim - 1), words.shape[-1] // part.shape[-1]]
        for axis in reversed(range(part.ndim)):
            of = f"{name} {part.dtype} {np.shape(leaf)} {axis}"
            weights = _weights(of, starts[axis] * scales[axis], words.shape[-1])
            words = np.einsum("...j,j->...", words, weights)
        total += int(words)
    return total


def _parts(leaf: Any) -> Iterator[tuple[list[int], np.ndarray]]:
    """Where the parts of an array begin that this process counts, and what is in them.

    Each part is in one process's hands: the first copy of those that lie on several devices.
    """
    if isinstance(leaf, jax.Array):
        shards = [
            ([place.start or 0 for place in shard.index], np.asarray(shard.data))
            for shard in leaf.addressable_shards
            if shard.replica_id == 0
        ]
    else:
        array = np.asarray(leaf)
        shards = [([0] * array.ndim, array)] if jax.process_index() == 0 else []
    for starts, part in shards:
        if part.size:
            yield starts or [0], np.ascontiguousarray(part)  # a number becomes (1,)


@functools.lru_cache(maxsize=4096)
def _weights(name: str, start: int, count: int) -> np.ndarray:
    """Odd numbers (SplitMix64) for the places from `start` on of an axis of a name."""
    z = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    z = z * np.uint64(0x9E3779B97F4A7C15) + np.uint64(_seed(name))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) | np.uint64(1)


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
