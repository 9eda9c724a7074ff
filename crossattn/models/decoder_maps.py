"""Maps of a decoder in which nothing but attention mixes tokens: of words, and over the context.

What rollout and relevancy follow through all layers (Abnar & Zuidema 2020; Chefer et al. 2021).
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.reading_layers import Reading, gathered, readings, scattered
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import presets
from crossattn.nn.interventions import ACTIVATIONS, INTERVENTIONS
from crossattn.shapes import Array, Float

__all__ = ["DecoderMaps", "decoder_maps", "has_decoder_maps"]


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
    alone = not config.connector and config.cross_every == 1
    return plain and alone and config.attends and order == ("self", "cross")


def decoder_maps(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    score: Callable[[Float[Array, "B T V"]], Float[Array, " B"]],
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

    def run(perturbations):
        given: dict[str, Any] = {}
        for where, zeros in zip((words, context), perturbations, strict=True):
            _merge(given, scattered({"perturbation": zeros}, where))
        variables = {**params, INTERVENTIONS: given}
        (logits, _), found = model.apply(variables, **inputs, mutable=[ACTIVATIONS])
        maps = [gathered(found[ACTIVATIONS], where, "map") for where in (words, context)]
        return score(logits).sum(), maps

    like = jax.eval_shape(lambda: _captured(model, params, inputs, (words, context)))
    zeros = [jnp.zeros(one.shape, one.dtype) for one in like]
    gradients, maps = jax.grad(run, has_aux=True)(zeros)
    return DecoderMaps(*maps, *gradients)


def _captured(model, params, inputs, where):
    _, found = model.apply(params, **inputs, mutable=[ACTIVATIONS])
    return [gathered(found[ACTIVATIONS], one, "map") for one in where]


def _merge(tree, other):
    """Put the leaves of another tree, which are elsewhere, into a tree."""
    for name, node in other.items():
        if isinstance(node, dict) and name in tree:
            _merge(tree[name], node)
        else:
            tree[name] = node
