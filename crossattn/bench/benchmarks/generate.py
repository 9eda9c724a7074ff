"""Benchmark `generate`: a text decoder writes words, ours and others of the same sizes.

Ours is `generate` over a context that was projected once, with the keys and values of words in a
cache of fixed shape. "blocks" has the same parameters in blocks of their own, layer after layer,
instead of a stack. Flax's is the decoder of the same parameters out of its own attention modules,
`decode=True` for the words, in one compiled scan. transformers' Whisper has parameters of its own,
as many. All choose the likeliest word.
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
from crossattn.nn.block import Block
from crossattn.nn.cache import KVCache
from crossattn.nn.stack import Stack

from ..cases import Case, DecoderShape
from ..timing import Program, jax_program
from . import transformers_whisper
from .attention import OURS, normal
from .linen_decoder import EPSILON, linen_parameters, linen_writer

BLOCKS = "blocks"
WRITERS = (BLOCKS, "linen", *transformers_whisper.NAMES)


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    shape, work = decoder_of(case), writing_work(case)
    context = normal(case, 1, (shape.B, shape.S, shape.width))
    model = decoder_model(case, case.steps + 1)
    params = random_parameters(case, model, context)
    writers = {
        OURS: lambda p, c: _ours(model, p, c, case.steps),
        BLOCKS: _blocks(case),
        "linen": linen_writer(case, shape),
    }
    truth = np.asarray(jax.jit(writers[OURS])(params, context))
    wrong = lambda tokens: float(np.mean(np.asarray(tokens) != truth))

    def build(name: str) -> Program:
        if name in transformers_whisper.NAMES:
            count = sum(leaf.size for leaf in jax.tree.leaves(params))
            return transformers_whisper.writing(case, name, np.asarray(context), count, work)
        tree = linen_parameters(case, shape, params) if name == "linen" else params
        return jax_program(writers[name], tree, context, error=wrong, units=case.steps, work=work)

    return build


def decoder_of(case: Case) -> DecoderShape:
    """The shape of a case; two layers and 1000 words where it says nothing of them."""
    if isinstance(case.shape, DecoderShape):
        return case.shape
    shape = case.shape
    return DecoderShape(shape.name, *shape.sizes)


def decoder_model(case: Case, length: int, remat: Any = None) -> TextDecoder:
    """A decoder as Whisper's, for texts of up to so many words."""
    shape = decoder_of(case)
    config = presets.config("whisper")
    sizes: Any = {"layers": shape.layers, "width": shape.width, "heads": shape.H}
    return TextDecoder(Stack(config=config, remat=remat, **sizes), shape.vocab_size, length)


def random_parameters(case: Case, model: TextDecoder, context: Any) -> Any:
    """In the case's dtype, and large enough that words differ."""
    tokens = jnp.zeros((1, 2), jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), tokens, context[:1]))
    rng = np.random.default_rng([case.seed, 8])

    def filled(path, leaf):
        normal = rng.standard_normal(leaf.shape, np.float32)
        if path[-1].key == "kernel":
            normal *= np.float32(leaf.shape[-2] ** -0.5)
        else:
            normal = normal * np.float32(0.1) + np.float32(path[-1].key == "scale")
        return jnp.asarray(normal).astype(case.dtype)

    return jax.tree_util.tree_map_with_path(filled, shapes)


def writing_work(case: Case) -> tuple[float, float]:
    """(operations, bytes) of a step of all texts: weights once, and what attention has cached."""
    shape, item = decoder_of(case), jnp.dtype(case.dtype).itemsize
    B, _, S, *_ = shape.sizes
    M = shape.width
    weights = 14 * M * M * shape.layers + M * shape.vocab_size
    cached = 2 * M * shape.layers * (S + case.steps / 2)
    return 2.0 * B * (weights + cached), item * (weights + B * cached)


def _ours(model: TextDecoder, params: Any, context: Any, steps: int) -> Any:
    projected = model.apply(params, context, method="project")
    rows = context.shape[0]

    def step(cache, tokens, position):
        out: Any = model.apply(params, tokens, projected, cache, position, method="decode_step")
        return out[0], out[1], None

    half = {"dtype": context.dtype}
    cache = model.apply(params, rows, steps + 1, method="init_cache", **half)
    return _written(step, cache, rows, steps)


def _written(step: Any, cache: Any, rows: int, steps: int) -> Any:
    start = jnp.ones((rows, 1), jnp.int32)
    return generate(step, cache, start, length=steps, eos_id=None).tokens[:, 1:]


def _blocks(case: Case) -> Callable[[Any, Any], Any]:
    """The stack's parameters in blocks of their own, cut out before the loop."""
    shape, rows, steps = decoder_of(case), case.shape.B, case.steps
    block = Block(shape.width, shape.H, presets.config("whisper"))

    def write(params: Any, context: Any) -> Any:
        own = params["params"]
        layers = [
            {"params": jax.tree.map(lambda leaf, i=i: leaf[i], own["stack"]["blocks"])}
            for i in range(shape.layers)
        ]
        projected = [block.apply(layer, context, method="project") for layer in layers]
        table, places = own["words"]["embedding"], own["places"]["embedding"]
        norm = linen.LayerNorm(epsilon=EPSILON)

        def step(caches, tokens, position):
            x, new = (table[tokens] + places[position][None])[:, None], []
            for layer, keys, cache in zip(layers, projected, caches, strict=True):
                given = (x, keys, cache, position)
                x, cache, _ = block.apply(layer, *given, method="decode_step")  # type: ignore[misc]
                new.append(cache)
            y: Any = norm.apply({"params": own["norm"]}, x)
            return (y @ table.T.astype(y.dtype))[:, 0], tuple(new), None

        empty = jnp.zeros((rows, shape.H, steps + 1, shape.D), context.dtype)
        return _written(step, (KVCache(empty, empty),) * shape.layers, rows, steps)

    return write
