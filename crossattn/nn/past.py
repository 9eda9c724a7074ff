"""What a text has been so far, as keys and values of fixed shape."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.design import Design
from crossattn.nn.tables import concrete, exceeds
from crossattn.ops import Mask
from crossattn.ops.numbers import checked_integer, short_repr
from crossattn.ops.sizes import all_known as known_size
from crossattn.shapes import Array

__all__ = ["Past", "check_step", "empty_past", "fits", "from_place", "pasts"]


@struct.dataclass
class Past:
    """What the queries have been so far, as keys and values of fixed shape.

    Attributes:
      keys: (B, K, N, D), heads first, of which the first are filled; of a stack of layers with
        further axes in front.
      values: (B, K, N, V).
    """

    keys: Any
    values: Any

    @property
    def room(self) -> int:
        """N, how many tokens fit."""
        return self.keys.shape[-2]

    def extended(self, new: ProjectedContext, place: Any) -> "Past":
        """With the keys and values of the tokens from `place` on.

        Where `place` is known only when the program runs, tokens that do not fit are written as
        NaN: the output of this step and of all that follow is NaN, instead of that of a text whose
        tokens lie over one another.

        Raises:
          ValueError: they do not fit, they are those of other rows or heads, or `place` is not one
            number.
        """
        T, room = new.keys.shape[-2], self.room
        for mine, other in ((self.keys, new.keys), (self.values, new.values)):
            if (*mine.shape[:-2], mine.shape[-1]) != (*other.shape[:-2], other.shape[-1]):
                raise ValueError(
                    f"a past {mine.shape} for tokens {other.shape}: rows, heads and head size are "
                    "those of start(rows, length) of the module that makes the step"
                )
        there = fits(T, room, place)

        def written(every, some):
            some = jnp.where(there, some.astype(every.dtype), jnp.nan)
            # A negative start would be counted from the end.
            start = jnp.maximum(place, 0)
            return jax.lax.dynamic_update_slice_in_dim(every, some, start, axis=2)

        return Past(written(self.keys, new.keys), written(self.values, new.values))


def fits(T: Any, room: Any, place: Any, what: str = "a past") -> Any:
    """Whether T tokens from `place` on have a place in what has room for so many.

    Raises:
      ValueError: they have none, where `place` is known, or it is not one number.

    >>> fits(2, 3, 2, "positions")
    Traceback (most recent call last):
    ValueError: positions for 3 tokens, got 4: the prompt and all that is written behind it count
    """
    if jnp.ndim(place):
        raise ValueError(
            f"place is one number for all rows, got shape {jnp.shape(place)}: "
            "it is the number of the first of these tokens"
        )
    if not jnp.issubdtype(jnp.result_type(place), jnp.integer):
        raise TypeError(f"place is an integer, got {short_repr(place)}")
    known = concrete(place)
    first = 0 if known is None else int(known)
    if first < 0:
        raise ValueError(f"place is at least 0, got {first}: the first token stands at 0")
    if exceeds(first + T, room):
        raise ValueError(
            f"{what} for {room} tokens, got {first + T}: "
            "the prompt and all that is written behind it count"
        )
    return (_signed(place) >= 0) & (_signed(place) <= room - T) if known is None else True


def _signed(place: Array) -> Array:
    """With a sign, and wide enough for any number of tokens; what wraps around is below 0."""
    return place.astype(jnp.int64 if place.dtype.itemsize == 8 else jnp.int32)


def check_step(design: Design, context: Any, past: Any) -> None:
    """Refuse a step without what it reads.

    Raises:
      TypeError: a past that `start` did not make, or a context that is not projected.
    """
    order = design.order
    if not isinstance(past, Past) and ("self" in order or "merged" in order):
        raise TypeError(f"past is required: write start(rows, length), got {short_repr(past)}")
    if not isinstance(context, ProjectedContext) and ("cross" in order or "merged" in order):
        raise TypeError(
            f"a step reads a projected context: write project(context), got {short_repr(context)}"
        )


def from_place(place: Any) -> Mask:
    """What tokens from `place` on see of their past; see `Past.extended` for a negative place."""
    return Mask.causal(jnp.maximum(place, 0))


def empty_past(
    attention: CrossAttention, leading: tuple[int, ...], length: int, dtype: Any
) -> Past:
    """A past of up to `length` tokens, none of which is filled; in JAX's float if dtype is None."""
    dtype = jnp.result_type(float) if dtype is None else dtype
    if known_size(leading[-1]):
        checked_integer("rows", leading[-1], least=0)
    if known_size(length):
        checked_integer("length", length)
    empty = lambda size: jnp.zeros((*leading, attention.shared, length, size), dtype)
    return Past(empty(attention.size), empty(attention.read))


def pasts(tree: Any) -> list[tuple[str, Past]]:
    """Every `Past` in a tree, with its path."""
    stop = lambda node: isinstance(node, Past)
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=stop)
    return [(jax.tree_util.keystr(path), node) for path, node in found if stop(node)]
