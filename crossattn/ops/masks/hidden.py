"""What nobody sees becomes 0."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.masks.mask import Mask
from crossattn.ops.masks.parts import Span
from crossattn.ops.sizes import all_known
from crossattn.shapes import Array, Float

__all__ = ["zero_hidden"]


def zero_hidden(x: Float[Array, "B S N"], mask: Mask, T: Any) -> Float[Array, "B S N"]:
    """Keys' tokens with zeros where none of T queries sees one.

    A hidden token may hold NaN, and 0 * NaN is NaN: a weight of 0 does not hide it from a product.
    So there are two places, and no third, where what is hidden becomes 0:

    * here, before anything with parameters (a norm, a projection) reads the tokens: the gradient of
      a projection is a product with its input, whatever the attention does with the result;
    * in each kernel, block by block, for its queries, keys and values and their cotangents: those
      are what `attend` is given by anyone, and copies of them whole would break the memory bar.
    """
    B, S, _ = x.shape
    if not mask.terms or 0 in (T, S):
        return x
    return jnp.where(_seen(mask, B, T, S)[..., None], x, 0)


def _seen(mask: Mask, B: Any, T: Any, S: Any) -> Array:
    """Keys that any query sees, (B|1, S|1), from blocks of queries."""
    if jax.eval_shape(lambda: mask.visible(B, T, S)).shape[2] == 1:
        return mask.visible(B, T, S).any((1, 2))
    block = min(T, 256) if all_known(T) else 256

    def more(i, seen):
        rows: Any
        if all_known(T):
            rows = Span(jnp.minimum(i * block, T - block), block)
        else:  # the last query again where there are no more
            rows = i * block + jnp.arange(block, dtype=jnp.int32)
            rows = jnp.minimum(rows, jnp.asarray(T, jnp.int32) - 1)
        return seen | mask.visible(B, T, S, rows).any((1, 2))

    start = jnp.zeros(jax.eval_shape(more, jnp.int32(0), jnp.zeros((1, 1), bool)).shape, bool)
    return jax.lax.fori_loop(jnp.int32(0), jnp.int32((T + block - 1) // block), more, start)
