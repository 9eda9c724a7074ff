"""Explanations of a trained model's answers beside the causal effects of parts of the picture."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.align import (
    Relevancy,
    attention_grad_cam,
    curve_area,
    deletion_curve,
    gradient_weighted_attention,
    hiding_effects,
    insertion_curve,
    parts_of_grid,
    rollout,
    sum_over_parts,
)
from crossattn.align.inputs import ExplainedParts
from crossattn.data.batches import Batch, gather
from crossattn.data.examples import Examples
from crossattn.models.decoder_maps import decoder_maps, has_decoder_maps
from crossattn.models.interventions import COMPOSED, maps_and_gradients
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.shapes import Array, Int
from crossattn.train.evaluate import Evaluator
from crossattn.train.step import forward, inputs_of
from crossattn.train.texts import positions

# Answers that are explained, at most, and how many at once.
ANSWERS, AT_ONCE = 64, 32
# A picture has so many parts along its longer side, or fewer.
PARTS_ACROSS = 4
# Explanations in the order of tables.
ORDER = ("attention", "rollout", "relevancy", "grad_cam", "random")


class Answered(NamedTuple):
    """N answers that name what is in the picture.

    Attributes:
      examples: their rows.
      queries: the position that predicts each, (N,).
    """

    examples: Examples
    queries: np.ndarray


def answers_of(examples: Examples, count: int = ANSWERS) -> Answered | None:
    """So many answers, drawn with a fixed seed; None where nothing of the kind is asked."""
    if examples.shown is not None:
        raise ValueError(
            "parts of pictures are explained where these fill their square: data.resolution square"
        )
    rows, queries, _ = positions(examples)["answer"]
    if not len(rows):
        return None
    count = min(count, len(rows))
    some = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    return Answered(examples.rows(rows[some]), queries[some])


def parts_of(examples: Examples) -> Int[np.ndarray, " P"]:
    """The part of each patch: squares, `PARTS_ACROSS` along the longer side of the picture."""
    return parts_of_grid(examples.grid, -(-max(examples.grid) // PARTS_ACROSS))


class Explainer:
    """Saliency of patches for answers, by one compiled program for all seeds of a variant."""

    def __init__(self, model: VisionLanguageDecoder):
        self.program = jax.jit(functools.partial(_saliency, model))

    def saliency(self, params: Any, answered: Answered) -> dict[str, np.ndarray]:
        """By name: of each layer (N, L, P), or (N, P) of all; "heads" are weights (N, L, H, P)."""
        examples, queries = answered
        parts, count = [], len(queries)
        for start in range(0, count, AT_ONCE):
            rows = np.arange(start, min(start + AT_ONCE, count))
            filled = np.concatenate([rows, np.full(AT_ONCE - len(rows), rows[0])])
            # An argument: as a constant, XLA would fold masks for seconds.
            visible = np.ones((AT_ONCE, examples.coverage.shape[-1]), bool)
            batch = Batch(**gather(examples, filled))
            found = self.program(params, batch, visible, queries[filled])
            parts.append({name: x[: len(rows)] for name, x in jax.device_get(found).items()})
        return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def _saliency(
    model: VisionLanguageDecoder, params: Any, batch: Batch, visible: Array, queries: Array
) -> dict[str, Array]:
    """Of a batch, at the position that predicts the answer."""
    every = jnp.arange(len(queries))
    score = lambda logits: jax.nn.log_softmax(logits.astype(jnp.float32))[
        every, queries, batch.tokens[every, queries + 1]
    ]
    inputs, config = inputs_of(batch, visible), model.config
    at = lambda maps: maps[:, every, :, queries]  # (B, L, H, P)
    weights_of = lambda attention: attention.weights()
    _, weights = forward(model, params, batch, visible, weights_of)
    found = {"heads": at(weights)}
    if config.connector or config.use in COMPOSED:
        return found
    P = batch.coverage.shape[-1]
    if has_decoder_maps(config):
        maps = decoder_maps(model, params, inputs, score)
        own, own_gradients = maps.words, maps.words_gradients
        read, gradients = maps.context, maps.context_gradients
        relevancy = Relevancy.start(read[0].mean(axis=1))
        for layer in range(len(read)):
            pair = own[layer], own_gradients[layer]
            relevancy = relevancy.self_attention(gradient_weighted_attention(*pair))
            pair = read[layer], gradients[layer]
            relevancy = relevancy.cross_attention(gradient_weighted_attention(*pair))
        found["relevancy"] = relevancy.x_to_context[every, queries, :P]
        T = own.shape[-1]
        found["rollout"] = rollout(_joint(own.mean(axis=2), read.mean(axis=2)))[
            every, queries, T : T + P
        ]
    else:
        read, gradients = maps_and_gradients(model, params, inputs, score)
    found["grad_cam"] = attention_grad_cam(read, gradients)[:, every, queries, :P].swapaxes(0, 1)
    return found


def _joint(words: Array, context: Array) -> Array:
    """Sublayers as attention among words and context together, (2 L, B, T + S, T + S).

    A + I then leaves the context as it is.
    """
    S = context.shape[-1]
    rows = lambda left, right: jnp.pad(
        jnp.concatenate([left, right], -1), [(0, 0)] * 2 + [(0, S), (0, 0)]
    )
    among = rows(words, jnp.zeros_like(context))
    across = rows(jnp.zeros_like(words), context)
    return jnp.stack([among, across], axis=1).reshape(-1, *among.shape[1:])


def explain_answers(
    evaluator: Evaluator,
    explainer: Explainer,
    params: Any,
    answered: Answered,
    layer: int,
    seed: int,
) -> Iterator[tuple[str, ExplainedParts]]:
    """Each explanation beside what hiding parts of the picture does, and its name.

    Args:
      evaluator: of the variant.
      explainer: of the variant.
      params: of the seed.
      answered: what is explained.
      layer: the one whose attention points best on validation data.
      seed: of the random explanation.
    """
    examples, count = answered.examples, len(answered.queries)
    parts = parts_of(examples)
    likelihood = _likelihood(evaluator, params, examples)
    effect = hiding_effects(likelihood, parts, count)
    found = explainer.saliency(params, answered)
    heads = found.pop("heads")
    maps = {"attention": heads[:, layer].mean(axis=1)}
    maps |= {name: x if x.ndim == 2 else x[:, layer] for name, x in found.items()}
    maps["random"] = np.random.default_rng(seed).random(maps["attention"].shape)
    probability = lambda seen: np.exp(likelihood(seen[:, parts]))
    for name in (one for one in ORDER if one in maps):
        saliency = sum_over_parts(maps[name], parts)
        curves = deletion_curve(probability, saliency), insertion_curve(probability, saliency)
        yield name, ExplainedParts(saliency, effect, *map(curve_area, curves))
    for one, head in np.ndindex(heads.shape[1:3]):
        saliency = sum_over_parts(heads[:, one, head], parts)
        yield f"attention/layer{one}/head{head}", ExplainedParts(saliency, effect)


def _likelihood(evaluator: Evaluator, params: Any, examples: Examples) -> Any:
    """log P of the answers (N,) of what is visible (N, P)."""

    def likelihood(visible: np.ndarray) -> np.ndarray:
        said = evaluator.predict(params, examples, visible, attention=False)
        return said.log_likelihood.astype(np.float64)

    return likelihood
