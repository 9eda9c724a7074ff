"""What devices of one mesh axis hand each other, inside `jax.shard_map(check_vma=True)`.

Sums over devices are taken by the receiver: an all-to-all of the parts, then a sum in float32. That
moves half of what a reduce-scatter of float32 sums moves for bfloat16 parts, loses nothing (the
parts are in bfloat16 already), and adds in one order on every machine.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["gather_tokens", "parts", "swapped"]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def gather_tokens(x: Array, axis: str, dim: int) -> Array:
    """The whole of an array of which each device has a stretch of `dim`: an all-gather.

    Its gradient sums in float32 (float64 for float64) what each device found for the whole.
    """
    return jax.lax.all_gather(x, axis, axis=dim, tiled=True)


def _forward(x, axis, dim):
    return gather_tokens(x, axis, dim), None


def _backward(axis, dim, _, cotangent):
    found = parts(cotangent, axis, dim)
    return (found.astype(precision(cotangent.dtype)).sum(0).astype(cotangent.dtype),)


gather_tokens.defvjp(_forward, _backward)


def parts(x: Array, axis: str, dim: int) -> Array:
    """This device's stretch of `dim` as each of n devices has found it, (n, ..., stretch, ...)."""
    n = jax.lax.axis_size(axis)
    cut = x.reshape(*x.shape[:dim], n, x.shape[dim] // n, *x.shape[dim + 1 :])
    return jax.lax.all_to_all(jnp.moveaxis(cut, dim, 0), axis, 0, 0, tiled=True)


def swapped(x: Array, axis: str, split: int, join: int) -> Array:
    """Cut along `split` among the devices, whole along `join`: an all-to-all."""
    return jax.lax.all_to_all(x, axis, split, join, tiled=True)
