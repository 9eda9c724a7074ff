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
from crossattn.shapes import Array

__all__ = ["CALLED", "call_primitive", "library"]

PRIMITIVES = {way: f"_dot_product_attention_{way}_p_wrapper" for way in ("fwd", "bwd")}
CALLED = (*PRIMITIVES.values(), "AttentionLayout", "MaskType")


def call_primitive(
    way: str,
    inputs: tuple[Array, ...],
    results: tuple[Array, ...],
    *,
    bias: Array | None,
    lengths: tuple[Array, ...],
    offsets: tuple[Array, ...],
    heads_first: bool,
    elsewhere: str | None,
    **options: Any,
) -> list[Array]:
    """What the primitive "fwd" or "bwd" returns: arrays (B, N, H, X) and (B, H, T).

    Args:
      way: "fwd" or "bwd".
      inputs: q, k and v.
      results: nothing, or lse, o and do.
      bias: (B|1, H|1, T, S), or None.
      lengths: int32 of queries and keys, (B,), or (B, M) of packed sequences; or nothing.
      offsets: int32 (B, M + 1) of queries and keys of packed sequences, or nothing.
      heads_first: whether keys and values are views of arrays that lie (B, K, S, X).
      elsewhere: see `on_cuda`.
      options: what else the primitive is told.
    """
    primitive, layouts = getattr(library, PRIMITIVES[way]), library.AttentionLayout
    options["layout"] = (layouts.BNTH if heads_first else layouts.BTNH).value
    options |= {"seed": 42, "dropout_rate": 0.0}
    # Newer versions of jax let a function change the scores.
    if "score_mod" in inspect.signature(library.dot_product_attention).parameters:
        options["score_mod"] = None
    laid = lambda x: x.swapaxes(1, 2) if heads_first and x.ndim == 4 else x
    unused = jnp.zeros(0, inputs[0].dtype)
    added = (unused if bias is None else bias,)
    tokens = *(lengths or (unused, unused)), *(offsets or (unused, unused))
    pages = unused, unused
    inputs, results = jax.tree.map(laid, (inputs, results))
    bind = on_cuda(partial(primitive.bind, **options), elsewhere)
    found = bind(*inputs, *added, *tokens, *pages, *results)
    count = 1 if way == "fwd" else 3  # of tokens; then lse, or the gradient of the bias
    return [laid(x) if n < count else x for n, x in enumerate(found)]
