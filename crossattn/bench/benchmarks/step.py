"""Benchmark `step`: one update of a text decoder by AdamW, ours and transformers' Whisper.

Parameters and their moments are in float32, what is computed in the dtype of the case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from crossattn.models.text_decoder import TextDecoder
from crossattn.nn.head import Targets

from ..cases import Case
from ..timing import Program
from . import transformers_whisper
from .attention import OURS, normal
from .generate import decoder_model, decoder_of, random_parameters

RATE = 1e-4


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name; "crossattn[everything]" has remat."""
    shape, work = decoder_of(case), training_work(case)
    context = normal(case, 1, (shape.B, shape.S, shape.width))
    rng = np.random.default_rng([case.seed, 9])
    tokens = rng.integers(shape.vocab_size, size=(shape.B, shape.T + 1), dtype=np.int32)
    first: list[float] = []

    def build(name: str) -> Program:
        model = decoder_model(case, shape.T, _remat(name) if name.startswith(OURS) else None)
        params = random_parameters(case, model, context)
        if name in transformers_whisper.NAMES:
            count = sum(leaf.size for leaf in jax.tree.leaves(params))
            arrays = np.asarray(context, np.float32), tokens
            return transformers_whisper.training(case, name, arrays, count, work)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params)
        return _program(model, params, (context, jnp.asarray(tokens)), first, work)

    return build


def _remat(name: str) -> str | None:
    return name.removeprefix(OURS).strip("[]") or None


def training_work(case: Case) -> tuple[float, float]:
    """(operations, 0 bytes) of a step: three times those of the products of a forward pass.

    What remat computes again does not count, and causal attention counts as if it were full.
    """
    shape = decoder_of(case)
    (B, T, S, *_), M = shape.sizes, shape.width
    word = 2 * 14 * M * M + 4 * (T + S) * M
    layers = shape.layers * (B * T * word + B * S * 4 * M * M)
    return 3.0 * (layers + B * T * 2 * M * shape.vocab_size), 0.0


def _program(
    model: TextDecoder, params: Any, batch: tuple[Any, Any], first: list[float], work: Any
) -> Program:
    """Its error is that of the first loss, beside the contestant that was built before all."""
    optimizer = optax.adamw(RATE)
    context, tokens = batch

    def loss(params: Any, context: Any, tokens: Any) -> Any:
        half = jax.tree.map(lambda leaf: leaf.astype(context.dtype), params)
        following = tokens[:, 1:]
        targets = Targets(following, jnp.full(following.shape, 1 / following.size))
        return model.apply(half, tokens[:, :-1], context, targets, method="cross_entropy")[0]

    def step(state: Any, context: Any, tokens: Any) -> Any:
        params, moments = state
        value, gradient = jax.value_and_grad(loss)(params, context, tokens)
        # optax mixes dtypes by NumPy's rules.
        with jax.numpy_dtype_promotion("standard"):
            updates, moments = optimizer.update(gradient, moments, params)
            return (optax.apply_updates(params, updates), moments), value

    state = params, optimizer.init(params)
    compiled = jax.jit(step, donate_argnums=0).lower(state, context, tokens).compile()
    memory: Any = compiled.memory_analysis()
    held = [state]

    def run() -> Any:
        held[0], value = jax.block_until_ready(compiled(held[0], context, tokens))
        return value

    def error(value: Any) -> float:
        first.append(float(value))
        return abs(first[-1] - first[0]) / abs(first[0])

    temporary = getattr(memory, "temp_size_in_bytes", None)
    return Program(run, error, 1, temporary, work=work)
