"""`jax.vmap` of a kernel's method makes its batch larger.

jax's rules for cuDNN's calls know neither packed sequences nor a bias that heads share (before
0.11.1), and a choice that depends on one example would be computed both ways for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.protocol import AttentionCall
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["mapped_into_batch"]

Method = Callable[..., Any]  # of a call and what else is given, to arrays (B, ...)


def mapped_into_batch(method: Method) -> Method:
    """The same method, where a mapped axis joins the batch; numbers of a mask stay known.

    >>> double = mapped_into_batch(lambda call: 2 * call.q)
    >>> x = jnp.ones((3, 1, 5, 1, 8))
    >>> call = AttentionCall(x, x, x, None, None, None, 1.0, None)
    >>> jax.vmap(double)(call).shape
    (3, 1, 5, 1, 8)
    """

    def run(call: AttentionCall, *given: Any) -> Any:
        leaves, tree = jax.tree.flatten((call, *given))
        known = [None if hasattr(x, "shape") else x for x in leaves]

        def whole(arrays: Any) -> Any:
            rest = iter(arrays)
            return jax.tree.unflatten(tree, [next(rest) if x is None else x for x in known])

        @jax.custom_batching.custom_vmap
        def inner(*arrays: Array) -> Any:
            return method(*whole(arrays))

        @inner.def_vmap
        def rule(size: int, mapped: Any, *arrays: Array) -> Any:
            B = call.q.shape[0]
            longer = [_longer(x, m, size, B) for x, m in zip(arrays, mapped, strict=True)]
            larger, *more = whole(longer)
            bias = larger.bias if more else None
            if bias is not None:  # a gradient for each of `size`
                shape = size * B, *bias.shape[1:]
                larger = dataclasses.replace(larger, bias=jnp.broadcast_to(bias, shape))
            results = jax.tree.map(lambda x: x.reshape(size, B, *x.shape[1:]), run(larger, *more))
            if bias is not None and call.bias.shape[0] != B:
                dbias = results[3].sum(1, dtype=precision(bias.dtype), keepdims=True)
                results = *results[:3], dbias.astype(bias.dtype)
            return results, jax.tree.map(lambda x: True, results)

        return inner(*(x for x in leaves if hasattr(x, "shape")))

    return run


def _longer(x: Array, mapped: bool, size: int, B: int) -> Array:
    """x (size, B|1, ...) if it is mapped, else (B|1, ...) or (), to (size B|1, ...) or ()."""
    if not mapped:
        if x.ndim == 0 or x.shape[0] != B:
            return x
        x = jnp.broadcast_to(x, (size, *x.shape))
    if x.ndim == 1:  # one number each of `size`
        return jnp.repeat(x, B)
    return jnp.broadcast_to(x, (size, B, *x.shape[2:])).reshape(size * B, *x.shape[2:])
