"""Benchmark `decode`: one token after the other reads the same context.

Ours reads a context that was projected once; Flax's modules have nowhere to keep one and project it
again in every step. The output of a step is the next one's input.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.nnx
import jax
import numpy as np

from crossattn.nn import CrossAttention

from ..cases import Case
from ..timing import Program, jax_program
from ..truth import Truth, attention64
from .attention import OURS, normal
from .module import apply_functions, by_heads, parameters, project

FORMS = ("scanned", "jitted steps", "steps")
CONTESTANTS = [f"{who}, {form}" for who in (OURS, "linen", "nnx") for form in FORMS]
# Loops are compared with our loop of compiled steps, scans with our scan, and all with our scan.
SCANNED = f"{OURS}, scanned"
BESIDE = {
    name: SCANNED if name.endswith("scanned") else f"{OURS}, jitted steps" for name in CONTESTANTS
}

# (parameters, x, context) -> x
Step = Callable[[Any, Any, Any], Any]


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    B, T, S, H, D = case.shape.sizes
    x, context = (normal(case, i, (B, length, H * D)) for i, length in enumerate((T, S)))
    weights = parameters(case)
    truth = _truth(case, weights, x, context)

    def build(name: str) -> Program:
        who, form = name.split(", ")
        step, tree, seen = _step(who, case, weights, context)
        return _program(form, step, (tree, x, seen), case.steps, lambda y: truth.error([y]))

    return build


def _step(who: str, case: Case, weights, context) -> tuple[Step, Any, Any]:
    """A step, its parameters, and what it takes for the context."""
    if who == "nnx":
        return *_nnx(case, weights), context
    step, to_tree = apply_functions(case)[who]
    tree = to_tree(weights)
    if who == OURS:
        block = CrossAttention(width=case.shape.H * case.shape.D, heads=case.shape.H)
        project_once = jax.jit(lambda p, c: block.apply({"params": p}, c, method="project"))
        context = project_once(tree, context)
    return step, tree, context


def _nnx(case: Case, weights) -> tuple[Step, Any]:
    H, width = case.shape.H, case.shape.H * case.shape.D
    rest: Any = {"decode": False, "dtype": case.dtype, "rngs": flax.nnx.Rngs(0)}
    module = flax.nnx.MultiHeadAttention(num_heads=H, in_features=width, **rest)
    definition, state = flax.nnx.split(module)
    flax.nnx.replace_by_pure_dict(state, by_heads(case, weights))
    return lambda s, x, context: flax.nnx.merge(definition, s)(x, context), state


def _program(form: str, step: Step, arguments, steps: int, error) -> Program:
    """`steps` steps: inside one compiled scan, or by as many calls, compiled or not."""
    tree, start, context = arguments
    if form == "scanned":

        def scan(tree, x, context):
            return jax.lax.scan(lambda x, _: (step(tree, x, context), None), x, length=steps)[0]

        return jax_program(scan, *arguments, error=error, units=steps)
    call: Callable[..., Any] = step
    temporary = None
    if form == "jitted steps":
        call = compiled = jax.jit(step).lower(*arguments).compile()
        temporary = getattr(compiled.memory_analysis(), "temp_size_in_bytes", None)

    def run():
        x = start
        for _ in range(steps):
            x = call(tree, x, context)
        return jax.block_until_ready(x)

    return Program(run, error, steps, temporary)


def _truth(case: Case, weights, x: Any, context: Any) -> Truth:
    """Of the last step's output, in float64."""
    B, T, S, H, D = case.shape.sizes
    x, context = (np.asarray(y).astype(np.float64) for y in (x, context))
    k, v = (project(weights[n], context).reshape(B, S, H, D) for n in ("key", "value"))
    rows = np.arange(T)
    for _ in range(case.steps):
        q = project(weights["query"], x).reshape(B, T, H, D)
        x = project(weights["out"], attention64(q, k, v, rows=rows)["out"].reshape(B, T, H * D))
    return Truth(rows, {"out": x}, float(np.abs(x).max()))
