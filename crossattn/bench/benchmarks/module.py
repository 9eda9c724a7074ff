"""Benchmark `module`: cross-attention with its projections, ours and Flax Linen's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np

from crossattn.nn import CrossAttention

from ..cases import Case
from ..timing import Program, jax_program
from ..truth import Truth, attention64, checked_rows
from .attention import OURS, normal, with_gradients

PROJECTIONS = ("query", "key", "value", "out")


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    B, T, S, H, D = case.shape.sizes
    x, context = (normal(case, i, (B, length, H * D)) for i, length in enumerate((T, S)))
    weights = parameters(case)
    truth = _truth(case, weights, x, context)
    cotangent = [normal(case, 2, x.shape)] if case.direction == "backward" else []

    def build(name: str) -> Program:
        function, to_tree = apply_functions(case)[name]
        if case.direction == "backward":
            function = with_gradients(function)

        def error(result):
            # Of the output; the gradients follow from the operation's.
            return truth.error([result[0] if cotangent else result])

        return jax_program(function, to_tree(weights), x, context, *cotangent, error=error)

    return build


def parameters(case: Case) -> dict[str, dict[str, np.ndarray]]:
    """{projection: {kernel (M, M), bias (M,)}} in float32, with M = H D."""
    rng, M = np.random.default_rng([case.seed, 7]), case.shape.H * case.shape.D
    return {
        name: {
            "kernel": rng.standard_normal((M, M), np.float32) * np.float32(M**-0.5),
            "bias": rng.standard_normal(M, np.float32) * np.float32(0.1),
        }
        for name in PROJECTIONS
    }


def by_heads(case: Case, weights: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The same parameters with heads as an axis of their own, as Flax keeps them."""
    H, D, M = case.shape.H, case.shape.D, case.shape.H * case.shape.D
    inner, outer = {"kernel": (M, H, D), "bias": (H, D)}, {"kernel": (H, D, M), "bias": (M,)}
    return {
        name: {
            part: jnp.asarray(x).reshape((outer if name == "out" else inner)[part])
            for part, x in parts.items()
        }
        for name, parts in weights.items()
    }


def apply_functions(case: Case) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """name -> (function of (parameters, x, context), function that makes its parameters)."""
    H, M = case.shape.H, case.shape.H * case.shape.D
    ours = CrossAttention(width=M, heads=H)
    linen = flax.linen.MultiHeadDotProductAttention(
        num_heads=H, qkv_features=M, out_features=M, dtype=case.dtype
    )
    return {
        OURS: (
            lambda p, x, context: ours.apply({"params": p}, x, context)[0],
            lambda weights: jax.tree.map(jnp.asarray, weights),
        ),
        "linen": (
            lambda p, x, context: linen.apply({"params": p}, x, context),
            lambda weights: by_heads(case, weights),
        ),
    }


def project(weights: Mapping[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """One projection in float64."""
    return x @ weights["kernel"].astype(np.float64) + weights["bias"].astype(np.float64)


def _truth(case: Case, weights, x: Any, context: Any) -> Truth:
    """Of the module's output: the projections around the operation's truth, in float64."""
    B, T, S, H, D = case.shape.sizes
    x, context = (np.asarray(y).astype(np.float64) for y in (x, context))
    q, k, v = (
        project(weights[name], y).reshape(*y.shape[:2], H, D)
        for name, y in (("query", x), ("key", context), ("value", context))
    )
    rows = checked_rows(B, T, S, H)
    out = attention64(q, k, v, rows=rows)["out"].reshape(B, len(rows), H * D)
    out = project(weights["out"], out)
    return Truth(rows, {"out": out}, float(np.abs(out).max()))
