"""Dropout of weights: which are dropped is a function of a key and of where they stand.

Every weight has a counter of its own (query, key) under a key of its own example and head, and is
dropped where the counter's random word is below the rate (Salmon et al. 2011, "Parallel random
numbers: as easy as 1, 2, 3"). So nothing is kept between forward and backward, and neither blocks
nor implementations nor devices change what is dropped.

The generator is Threefry-2x32, as that of `jax.random`, with the 13 rounds from which on it passes
BigCrush; keys of examples and heads are made with the usual 20. It takes additions, shifts and
exclusive ors of 32 bits alone, which every platform does side by side and fuses into the softmax;
Philox takes the upper halves of products, for which XLA has no operation on 32 bits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.blockwise.slices import slice_of
from crossattn.shapes import Array

__all__ = ["Dropout", "kept", "threefry2x32"]

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA


def threefry2x32(
    key: tuple[Array, Array], counter: tuple[Array, Array], rounds: int = 20
) -> tuple[Array, Array]:
    """Two random words for each pair of words; all uint32, broadcast against each other.

    >>> zero = jnp.uint32(0)
    >>> [hex(word) for word in threefry2x32((zero, zero), (zero, zero))]
    ['0x6b200159', '0x99ba4efe']
    """
    keys = *key, key[0] ^ key[1] ^ jnp.uint32(PARITY)
    x, y = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(rounds):
        by = ROTATIONS[number % 8]
        x = x + y
        y = ((y << by) | (y >> (32 - by))) ^ x
        if number % 4 == 3:
            turn = number // 4 + 1
            x, y = x + keys[turn % 3], y + keys[(turn + 1) % 3] + jnp.uint32(turn)
    return x, y


@dataclasses.dataclass(frozen=True)
class Dropout:
    """Which weights of a call are dropped. A pytree whose rate is static.

    Where the call is a part of a larger one, `keys` are those of its examples and heads, and
    `first` says where its queries and keys begin.
    """

    keys: Any  # uint32 (B, H, 2)
    first: Any  # uint32 (B|1, 2): number of the first query, and of the first key
    rate: float

    @classmethod
    def of(cls, given: Any, B: Any, H: int) -> Dropout | None:
        """Of (rate, key) for B examples and H heads; one that is made already stays, as None does.

        >>> dropout = Dropout.of((0.5, jax.random.key(0)), 1, 1)
        >>> kept(dropout, (1, 1, 2, 6), "float32").astype(int).tolist()
        [[[[2, 2, 2, 2, 0, 0], [2, 2, 0, 2, 2, 0]]]]
        """
        if given is None:
            return None
        if isinstance(given, Dropout):
            if (made := given.keys.shape[:2]) != (B, H):
                raise ValueError(f"dropout is of {made} examples and heads; this call has {(B, H)}")
            return given
        rate, key = given
        of_call = jax.random.bits(key, (2,), "uint32")  # whatever kind of key it is
        examples, heads = (jnp.arange(n, dtype=jnp.uint32) for n in (B, H))
        words = threefry2x32((of_call[0], of_call[1]), (examples[:, None], heads[None]))
        return cls(jnp.stack(words, axis=-1), jnp.zeros((1, 2), jnp.uint32), rate)

    @property
    def growth(self) -> float:
        """What the weights that stay are multiplied by."""
        return 1 / (1 - self.rate)

    def moved(self, queries: Any, keys: Any) -> Dropout:
        """Of a part that begins at these; each an integer, or (B,) of them."""
        by = (jnp.atleast_1d(jnp.asarray(x).astype(jnp.uint32)) for x in (queries, keys))
        return dataclasses.replace(
            self, first=self.first + jnp.stack(jnp.broadcast_arrays(*by), axis=1)
        )

    def split_keys(self, parts: int, size: int) -> Dropout:
        """Of keys cut into parts of `size`: row b * parts + p is part p of example b."""
        first = jnp.repeat(self.first, parts, 0) if len(self.first) > 1 else self.first
        begin = jnp.tile(jnp.arange(parts, dtype=jnp.int32) * size, len(self.keys))
        return Dropout(jnp.repeat(self.keys, parts, 0), first, self.rate).moved(0, begin)

    def part(self, start: tuple[Any, Any], sizes: tuple[int, int]) -> Dropout:
        """Of some neighbouring examples and heads."""
        keys, first = slice_of(self.keys, (*start, 0), (*sizes, 2)), self.first
        if len(first) > 1:
            first = slice_of(first, (start[0], 0), (sizes[0], 2))
        return dataclasses.replace(self, keys=keys, first=first)

    def keeps(self, queries: Array, keys: Array) -> Array:
        """Booleans (B, H, T, S) for queries (T,) and keys (B|1, S), counted from the first."""
        query = queries.astype(jnp.uint32)[None] + self.first[:, :1]
        key = keys.astype(jnp.uint32) + self.first[:, 1:]
        counter = query[:, None, :, None], key[:, None, None]
        of_head = self.keys[:, :, 0, None, None], self.keys[:, :, 1, None, None]
        word, _ = threefry2x32(of_head, counter, 13)
        stays = word >= jnp.uint32(min(round(self.rate * 2**32), 2**32 - 1))
        # Drawn once: fused into its readers, of which backward has three, it is drawn in each.
        return jax.lax.optimization_barrier(stays)


jax.tree_util.register_dataclass(Dropout, data_fields=["keys", "first"], meta_fields=["rate"])


def kept(dropout: Dropout | None, shape: tuple[Any, ...], dtype: Any) -> Array | None:
    """What to multiply all weights (B, H, T, S) by, 0 where dropped; None without dropout."""
    if dropout is None:
        return None
    queries, keys = (jnp.arange(n, dtype=jnp.int32) for n in shape[2:])
    return jnp.where(dropout.keeps(queries, keys[None]), jnp.asarray(dropout.growth, dtype), 0)
