"""Products of blocks, heads first: two leading axes are those of a batch.

HIGHEST everywhere: the default is TF32 on GPUs and bfloat16 on TPUs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["dot", "inner", "masked_scores"]

_HIGHEST = jax.lax.Precision.HIGHEST


def dot(a: Array, b: Array, i: int, j: int) -> Array:
    """Contract axis i of a with axis j of b; sums in the softmax's dtype."""
    return jax.lax.dot_general(
        a,
        b,
        (((i,), (j,)), ((0, 1), (0, 1))),
        precision=_HIGHEST,
        preferred_element_type=precision(a.dtype),
    )


def inner(a: Array, b: Array) -> Array:
    """The sum of a b over the last axis, in the softmax's dtype: (b, k, rows, X) to (b, k, rows).

    Written as a product of matrices: where an axis of 1 leads, XLA's CPU compiler (jax 0.10.2)
    takes twenty times as long for the sum of an elementwise product.
    """
    dtype = precision(a.dtype)
    a, b = a.astype(dtype), b.astype(dtype)
    return jnp.einsum("bkrx,bkrx->bkr", a, b, precision=_HIGHEST)


def masked_scores(
    s: Array, visible: Array | None, bias: Array | None, scale: float, softcap: float | None
) -> tuple[Array, Array | None]:
    """Scores of products, -inf where invisible; and the slope of the soft-cap, None without one."""
    s, slope = s * scale, None
    if softcap is not None:
        capped = jnp.tanh(s / softcap)
        s, slope = softcap * capped, 1 - capped * capped
    if bias is not None:
        s = s + bias.astype(s.dtype)
    return (s if visible is None else jnp.where(visible, s, -jnp.inf)), slope
