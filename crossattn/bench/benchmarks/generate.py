"""Benchmark `generate`: a text decoder writes words, ours and the same one of Flax's modules.

Ours is `generate` over a context that was projected once, with the keys and values of words in a
cache of fixed shape. Flax's is the decoder of the same parameters out of its own attention modules,
`decode=True` for the words, in one compiled scan. Both choose the likeliest word.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from crossattn.models.generate import generate
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import presets
from crossattn.nn.stack import Stack

from ..cases import Case
from ..timing import Program, jax_program
from .attention import OURS, normal
from .module import by_heads

CONTESTANTS = [OURS, "linen"]
LAYERS, VOCABULARY, EPSILON = 2, 1000, 1e-5


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    B, _, S, H, D = case.shape.sizes
    context = normal(case, 1, (B, S, H * D))
    model = _model(case)
    params = _parameters(case, model, context)
    written = jax.jit(lambda p, c: _ours(model, p, c, case.steps))
    truth = np.asarray(written(params, context))

    def build(name: str) -> Program:
        if name == OURS:
            write, tree = lambda p, c: _ours(model, p, c, case.steps), params
        else:
            write, tree = _linen(case), _by_names(case, params)
        wrong = lambda tokens: float(np.mean(np.asarray(tokens) != truth))
        return jax_program(write, tree, context, error=wrong, units=case.steps)

    return build


def _model(case: Case) -> TextDecoder:
    sizes: Any = {"width": case.shape.H * case.shape.D, "heads": case.shape.H}
    config = presets.config("encoder_decoder_pre")
    stack = Stack(layers=LAYERS, config=config, **sizes)
    return TextDecoder(stack, VOCABULARY, case.steps + 1)


def _parameters(case: Case, model: TextDecoder, context: Any) -> Any:
    """Random, and large enough that words differ."""
    shapes = jax.eval_shape(
        lambda: model.init(jax.random.key(0), jnp.zeros((1, 2), int), context[:1])
    )
    rng = np.random.default_rng([case.seed, 8])

    def filled(path, leaf):
        normal = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "kernel":
            return jnp.asarray(normal * np.float32(leaf.shape[-2] ** -0.5))
        return jnp.asarray(normal * np.float32(0.1) + np.float32(path[-1].key == "scale"))

    return jax.tree_util.tree_map_with_path(filled, shapes)


def _ours(model: TextDecoder, params: Any, context: Any, steps: int) -> Any:
    B = context.shape[0]
    projected = model.apply(params, context, method="project")

    def step(cache, tokens, position):
        out: Any = model.apply(params, tokens, projected, cache, position, method="decode_step")
        return out[0], out[1], None

    cache = model.apply(params, B, steps + 1, method="init_cache")
    start = jnp.ones((B, 1), jnp.int32)
    return generate(step, cache, start, length=steps, eos_id=None).tokens[:, 1:]


def _linen(case: Case) -> Callable[[Any, Any], Any]:
    """A scan over words through blocks of Flax's own attention."""
    B, H = case.shape.B, case.shape.H
    attention: Any = {"num_heads": H, "dtype": case.dtype}

    class FlaxBlock(linen.Module):
        @linen.compact
        def __call__(self, x, context):
            norm = lambda name: linen.LayerNorm(epsilon=EPSILON, name=name)
            y = norm("self_norm")(x)
            x = x + linen.MultiHeadDotProductAttention(**attention, decode=True, name="self")(y)
            y = norm("cross_norm")(x)
            x = x + linen.MultiHeadDotProductAttention(**attention, name="cross")(y, context)
            y = linen.Dense(4 * x.shape[-1], name="up")(norm("mlp_norm")(x))
            return x + linen.Dense(x.shape[-1], name="down")(linen.gelu(y, approximate=False))

    class FlaxDecoder(linen.Module):
        @linen.compact
        def __call__(self, tokens, place, context):
            words = linen.Embed(VOCABULARY, context.shape[-1], name="words")
            places = linen.Embed(case.steps + 1, context.shape[-1], name="places")
            x = words(tokens) + places(place)[None]
            for layer in range(LAYERS):
                x = FlaxBlock(name=f"block{layer}")(x, context)
            return words.attend(linen.LayerNorm(epsilon=EPSILON, name="norm")(x))

    model = FlaxDecoder()

    def write(params, context):
        # `decode=True` makes its cache as long as the text that it is created with.
        text = jnp.zeros((B, case.steps), jnp.int32)
        places = jnp.arange(case.steps)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), text, places, context))
        cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes["cache"])

        def step(carry, place):
            cache, tokens = carry
            logits, new = model.apply(
                {"params": params, "cache": cache},
                tokens[:, None],
                place[None],
                context,
                mutable=["cache"],
            )
            tokens = jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32)
            return (new["cache"], tokens), tokens

        start = (cache, jnp.ones(B, jnp.int32))
        return jax.lax.scan(step, start, places)[1].T

    return write


def _by_names(case: Case, params: Any) -> Any:
    """The same parameters under the names of `_linen`, with heads as an axis of their own."""
    own = params["params"]

    def block(layer):
        one = jax.tree.map(lambda leaf: leaf[layer], own["stack"]["blocks"])
        return {
            "self": by_heads(case, one["self_attention"]),
            "cross": by_heads(case, one["cross_attention"]),
            **{
                f"{name}_norm": one[f"{name}_residual"]["norm"] for name in ("self", "cross", "mlp")
            },
            **one["mlp"],
        }

    blocks = {f"block{layer}": block(layer) for layer in range(LAYERS)}
    return {**{name: own[name] for name in ("words", "places", "norm")}, **blocks}
