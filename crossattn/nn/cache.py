"""Keys and values of the tokens that a causal stream has read, in arrays of fixed shape."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.config import BlockConfig
from crossattn.nn.tables import concrete, exceeds
from crossattn.ops import Mask
from crossattn.ops.numbers import checked_integer, short_repr
from crossattn.ops.sizes import all_known as known_size
from crossattn.shapes import Array

__all__ = [
    "KVCache",
    "check_caches",
    "check_decode_step",
    "empty_cache",
    "fits",
    "from_position",
    "kv_caches",
]


@struct.dataclass
class KVCache:
    """Keys and values of the tokens that have been read, in arrays of fixed shape.

    Attributes:
      keys: (B, K, N, D), heads first, of which the first are filled.
      values: (B, K, N, V).
    """

    keys: Any
    values: Any

    @property
    def room(self) -> int:
        """N, how many tokens fit."""
        return self.keys.shape[-2]

    def extended(self, new: ProjectedContext, position: Any) -> "KVCache":
        """With the keys and values of the tokens from `position` on.

        Where `position` is known only when the program runs, tokens that do not fit are written as
        NaN: the output of this step and of all that follow is NaN, instead of that of a text whose
        tokens lie over one another.

        Raises:
          ValueError: they do not fit, they are those of other rows or heads, or `position` is not
            one number.
        """
        T, room = new.keys.shape[-2], self.room
        for mine, other in ((self.keys, new.keys), (self.values, new.values)):
            if (*mine.shape[:-2], mine.shape[-1]) != (*other.shape[:-2], other.shape[-1]):
                raise ValueError(
                    f"a cache {mine.shape} for tokens {other.shape}: rows, heads and head size are "
                    "those of init_cache(rows, length) of the module that makes the step"
                )
        there = fits(T, room, position)

        def written(every, some):
            some = jnp.where(there, some.astype(every.dtype), jnp.nan)
            # A negative start would be counted from the end.
            start = jnp.maximum(position, 0)
            return jax.lax.dynamic_update_slice_in_dim(every, some, start, axis=2)

        return KVCache(written(self.keys, new.keys), written(self.values, new.values))


def fits(T: Any, room: Any, position: Any, what: str = "a cache") -> Any:
    """Whether T tokens from `position` on have a place in what has room for so many.

    Raises:
      ValueError: they have none, where `position` is known, or it is not one number.

    >>> fits(2, 3, 2, "positions")
    Traceback (most recent call last):
    ValueError: positions for 3 tokens, got 4: the prompt and all that is written behind it count
    """
    if jnp.ndim(position):
        raise ValueError(
            f"position is one number for all rows, got shape {jnp.shape(position)}: "
            "it is the number of the first of these tokens"
        )
    if not jnp.issubdtype(jnp.result_type(position), jnp.integer):
        raise TypeError(f"position is an integer, got {short_repr(position)}")
    known = concrete(position)
    first = 0 if known is None else int(known)
    if first < 0:
        raise ValueError(f"position is at least 0, got {first}: the first token stands at 0")
    if exceeds(first + T, room):
        raise ValueError(
            f"{what} for {room} tokens, got {first + T}: "
            "the prompt and all that is written behind it count"
        )
    return (_signed(position) >= 0) & (_signed(position) <= room - T) if known is None else True


def _signed(position: Array) -> Array:
    """With a sign, and wide enough for any number of tokens; what wraps around is below 0."""
    return position.astype(jnp.int64 if position.dtype.itemsize == 8 else jnp.int32)


def check_decode_step(config: BlockConfig, context: Any, cache: Any) -> None:
    """Refuse a step of one layer without what it reads.

    Raises:
      TypeError: a cache that `init_cache` did not make, or a context that is not projected.
    """
    order = config.order
    if not isinstance(cache, KVCache) and ("self" in order or "merged" in order):
        found = short_repr(cache)
        raise TypeError(f"cache is required: write init_cache(rows, length), got {found}")
    if not isinstance(context, ProjectedContext) and ("cross" in order or "merged" in order):
        raise TypeError(
            f"a step reads a projected context: write project(context), got {short_repr(context)}"
        )


def check_caches(caches: Any, layers: int) -> None:
    """Refuse what is not a cache for each of so many layers.

    >>> check_caches(None, 2)
    Traceback (most recent call last):
    TypeError: cache is required, one for each of 2 layers: write init_cache(rows, length), got None
    """
    if not isinstance(caches, Sequence) or len(caches) != layers:
        raise TypeError(
            f"cache is required, one for each of {layers} layers: "
            f"write init_cache(rows, length), got {short_repr(caches)}"
        )


def from_position(position: Any) -> Mask:
    """What tokens from `position` on see of those before; 0 where `position` is negative."""
    return Mask.causal(jnp.maximum(position, 0))


def empty_cache(attention: CrossAttention, rows: int, length: int, dtype: Any) -> KVCache:
    """A cache of up to `length` tokens, still empty; in JAX's float if dtype is None.

    Raises:
      TypeError: the dtype is not one of floats.
    """
    dtype = jnp.result_type(float if dtype is None else dtype)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"a cache holds floats, got dtype={dtype}: write dtype=jnp.bfloat16")
    if known_size(rows):
        checked_integer("rows", rows, least=0)
    if known_size(length):
        checked_integer("length", length)
    empty = lambda size: jnp.zeros((rows, attention.shared, length, size), dtype)
    return KVCache(empty(attention.size), empty(attention.read))


def kv_caches(tree: Any) -> list[tuple[str, KVCache]]:
    """Every `KVCache` in a tree, with its path."""
    stop = lambda node: isinstance(node, KVCache)
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=stop)
    return [(jax.tree_util.keystr(path), node) for path, node in found if stop(node)]
