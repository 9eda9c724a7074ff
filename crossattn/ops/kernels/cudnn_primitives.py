"""The two primitives of jax that are cuDNN's kernels.

They are called themselves, since the functions that surround them in jax ask the machine at hand
for its GPU, and a program for one can be lowered on any machine.
"""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.kernels.cuda_target import library
from crossattn.ops.kernels.one_platform import on_cuda
from crossattn.ops.kernels.private import mapped_into_batch
from crossattn.shapes import Array

__all__ = ["CALLED", "call_primitive", "library"]

PRIMITIVES = {way: f"_dot_product_attention_{way}_p_wrapper" for way in ("fwd", "bwd")}
CALLED = (*PRIMITIVES.values(), "AttentionLayout", "MaskType")


def call_primitive(
    way: str,
    inputs: tuple[Array, ...],
    results: tuple[Array, ...],
    lengths: tuple[Array, Array] | None,
    *,
    heads_first: bool,
    elsewhere: str | None,
    **options: Any,
) -> list[Array]:
    """What the primitive "fwd" or "bwd" returns: arrays (B, N, H, X) and (B, H, T).

    Args:
      way: "fwd" or "bwd".
      inputs: q, k and v.
      results: nothing, or lse, o and do.
      lengths: int32 (B,) of queries and keys, or None.
      heads_first: whether keys and values are views of arrays that lie (B, K, S, X).
      elsewhere: see `on_cuda`.
      options: what else the primitive is told.
    """
    primitive, layouts = getattr(library, PRIMITIVES[way]), library.AttentionLayout
    options["layout"] = (layouts.BNTH if heads_first else layouts.BTNH).value
    options |= {"seed": 42, "dropout_rate": 0.0, "variadic_args": (False, False)}
    # Newer versions of jax let a function change the scores.
    if "score_mod" in inspect.signature(library.dot_product_attention).parameters:
        options["score_mod"] = None
    laid = lambda x: x.swapaxes(1, 2) if heads_first and x.ndim == 4 else x

    @mapped_into_batch
    def bound(inputs: tuple, results: tuple, lengths: tuple) -> Any:
        unused = jnp.zeros(0, inputs[0].dtype)
        lengths = lengths or (unused, unused)
        rest = (unused,) * 4  # offsets and pages
        inputs, results = jax.tree.map(laid, (inputs, results))
        bind = on_cuda(partial(primitive.bind, **options), elsewhere)
        return bind(*inputs, unused, *lengths, *rest, *results)

    return [laid(x) for x in bound(inputs, results, lengths or ())]
