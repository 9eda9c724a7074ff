"""Attention maps and gradients with respect to them: what explanations are made of.

`decoder_maps` has those of a decoder in which nothing but attention mixes tokens, which rollout and
relevancy follow through all layers (Abnar & Zuidema 2020; Chefer et al. 2021).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.reading_layers import Reading, gathered, readings, scattered
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import presets
from crossattn.nn.interventions import ACTIVATIONS, INTERVENTIONS
from crossattn.shapes import Array, Float

__all__ = ["DecoderMaps", "decoder_maps", "gradients_of_maps", "has_decoder_maps"]

Score = Callable[[Float[Array, "B T V"]], Float[Array, " B"]]


class DecoderMaps(NamedTuple):
    """Weights of each layer and the gradients of each example's score with respect to them.

    Attributes:
      words: of words over words, (L, B, H, T, T).
      context: of words over the context, (L, B, H, T, S).
      words_gradients, context_gradients: of the score, of the same shapes.
    """

    words: Any
    context: Any
    words_gradients: Any
    context_gradients: Any


def has_decoder_maps(config: VisionLanguageConfig) -> bool:
    """Whether each layer is attention among words and then to patches, which nothing else mixes.

    >>> has_decoder_maps(VisionLanguageConfig()), has_decoder_maps(VisionLanguageConfig("flamingo"))
    (True, False)
    """
    plain = config.use == "decoder" and presets.get(config.preset).family == "block"
    order = getattr(config.block, "order", ())[:2]
    alone = not config.connector and not config.encoder_layers and config.cross_every == 1
    return plain and alone and config.attends and order == ("self", "cross")


def decoder_maps(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    score: Score,
) -> DecoderMaps:
    """Maps and gradients of a model for which `has_decoder_maps`.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on, an image for each text.
      score: of each example, of its logits.

    Raises:
      ValueError: another model.
    """
    if not has_decoder_maps(model.config):
        raise ValueError(
            f"decoder_maps: {model.config.preset} mixes tokens otherwise, or not in every layer: "
            "take a decoder that reads patches in every layer, like encoder_decoder_pre"
        )
    context = readings(model.config)
    words = tuple(Reading((*one.path[:-1], "self_attention"), one.layers) for one in context)
    maps, gradients = gradients_of_maps(model, params, inputs, score, (words, context))
    return DecoderMaps(*maps, *gradients)


def gradients_of_maps(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    score: Score,
    every: Sequence[tuple[Reading, ...]],
) -> tuple[list[Array], list[Array]]:
    """Maps (L, B, H, T, S), and the gradients of each example's score with respect to them.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on, an image for each text.
      score: of each example, of its own logits alone.
      every: the attentions, in groups whose maps have one shape.
    """

    def run(perturbations):
        given: dict[str, Any] = {}
        for where, zeros in zip(every, perturbations, strict=True):
            scattered({"perturbation": zeros}, where, given)
        logits, maps = _maps(model, {**params, INTERVENTIONS: given}, inputs, every)
        return score(logits).sum(), maps

    like = jax.eval_shape(lambda: _maps(model, params, inputs, every)[1])
    zeros = [jnp.zeros(one.shape, one.dtype) for one in like]
    gradients, maps = jax.grad(run, has_aux=True)(zeros)
    return maps, gradients


def _maps(model, variables, inputs, every):
    (logits, _), found = model.apply(variables, **inputs, mutable=[ACTIVATIONS])
    return logits, [gathered(found[ACTIVATIONS], where, "map") for where in every]
