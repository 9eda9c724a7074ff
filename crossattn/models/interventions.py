"""Activation patching, knock-out of edges and gradients of maps, of a `VisionLanguageDecoder`.

Activations of all layers in which words read the image are arrays with a leading axis L; what is
replaced is said by booleans. Every function is pure, and differentiable: put it under `jit`, `vmap`
or `grad`. `crossattn.nn.interventions` does the same in any module.

`inputs` are the arguments of the model by name; texts that share an image are run with one each.
Dropout and tokens that lie over devices are refused.

    >>> from crossattn.models.config import VisionLanguageConfig
    >>> model = VisionLanguageDecoder(11, VisionLanguageConfig(width=8, heads=2, layers=3))
    >>> inputs = {"tokens": jnp.ones((4, 5), int), "images": jnp.ones((2, 7, 3)),
    ...           "visible": jnp.ones((2, 7), bool), "prompt": jnp.ones((4, 5), bool),
    ...           "truth": jnp.ones((4, 5, 7), bool)}
    >>> score = lambda logits: jax.nn.log_softmax(logits)[:, -1, 0]
    >>> def run():
    ...     params = model.init(jax.random.key(0), **inputs)
    ...     _, found = capture(model, params, inputs)
    ...     others = jax.tree.map(lambda leaf: leaf[:, ::-1], found)  # of another example each
    ...     first = jnp.arange(3).reshape(3, 1, 1, 1) == 0
    ...     logits, _ = patch(model, params, inputs, others, output=first)
    ...     effects = head_effects(model, params, inputs, others, score)
    ...     return found, logits, effects, maps_and_gradients(model, params, inputs, score)
    >>> found, logits, effects, (maps, gradients) = jax.eval_shape(run)
    >>> found.map.shape, found.values.shape, found.output.shape
    ((3, 4, 2, 5, 7), (3, 4, 2, 7, 4), (3, 4, 2, 5, 4))
    >>> logits.shape, effects.shape, gradients.shape
    ((4, 5, 11), (3, 2, 4), (3, 4, 2, 5, 7))
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.decoder_maps import Score, gradients_of_maps
from crossattn.models.reading_layers import gathered, readings, scattered
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn.interventions import ACTIVATIONS, INTERVENTIONS
from crossattn.shapes import Array, Bool, Float

__all__ = [
    "Activations",
    "capture",
    "head_effects",
    "knock_out_edges",
    "maps_and_gradients",
    "patch",
    "swap_region",
]


class Activations(NamedTuple):
    """What the heads of every reading layer compute.

    Attributes:
      map: weights that read the values, (L, B, H, T, S); S are the tokens of the context, patches
        first (behind a connector latents; in a bottleneck T and S end with the shared tokens).
      values: (L, B, H, S, V).
      output: what each head has read, before the output projection, (L, B, H, T, V).
    """

    map: Any
    values: Any
    output: Any


def capture(
    model: VisionLanguageDecoder, params: Any, inputs: Mapping[str, Any]
) -> tuple[Float[Array, "B T V"], Activations]:
    """Logits and the activations behind them."""
    return _run(model, params, inputs, {})


def patch(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    source: Activations,
    **where: Array,
) -> tuple[Float[Array, "B T V"], Activations]:
    """Logits and activations where some activations are those of another run (activation patching).

    Vig et al. 2020, "Investigating gender bias in language models using causal mediation analysis";
    Meng et al. 2022, "Locating and editing factual associations in GPT".

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on.
      source: activations of a run on other inputs of the same shapes, by `capture`.
      **where: which entries of `map` and `output`, (L|1, B|1, H|1, T|1), and of `values`,
        (L|1, B|1, H|1, S|1), are replaced. A later layer sees what an earlier one made of it.

    Raises:
      ValueError: no such activation, or shapes that do not fit.
    """
    if not where:
        raise ValueError("patch: say which entries of map, values or output are replaced")
    if unknown := sorted(set(where) - set(Activations._fields)):
        raise ValueError(
            f"patch: no activation is named {', '.join(unknown)}: give where of "
            f"{', '.join(Activations._fields)}"
        )
    given: dict[str, Any] = {}
    for name, chosen in where.items():
        chosen = jnp.asarray(chosen)
        if chosen.dtype != bool or chosen.ndim != 4:
            raise ValueError(
                f"patch: {name} is where to, booleans of 4 axes with 1 for all, got "
                f"{chosen.dtype}{chosen.shape}"
            )
        given |= {name: getattr(source, name), f"{name}_where": chosen[..., None]}
    return _run(model, params, inputs, given)


def knock_out_edges(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    edges: Array,
) -> tuple[Float[Array, "B T V"], Activations]:
    """Logits and activations without some edges from words to the context (Geva et al. 2023).

    The softmax of a query runs over the keys that are left; where none is, it reads nothing.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on.
      edges: which are cut, (L|1, B|1, H|1, T|1, S|1), S as in `Activations`.

    Raises:
      ValueError: edges that are not boolean or of another shape.
    """
    edges = jnp.asarray(edges)
    if edges.dtype != bool or edges.ndim != 5:
        raise ValueError(
            "knock_out_edges: edges are booleans of 5 axes (L, B, H, T, S) with 1 for all, got "
            f"{edges.dtype}{edges.shape}"
        )
    return _run(model, params, inputs, {"edges": edges})


def swap_region(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    donors: Float[Array, "B P F"],
    region: Bool[Array, "B P"],
) -> tuple[Float[Array, "B T V"], Activations]:
    """Logits and activations where a region of each image has a donor's content.

    An interchange intervention (Geiger et al. 2021) on the input; `crossattn.align` has
    `exchange_regions`, which makes donors, and `region_swap_effect`, which adds a random region.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on, images as patches (B, P, F), one for each text.
      donors: whose content is put in, like the images.
      region: which patches.

    Raises:
      ValueError: donors of another shape or dtype, or a region that is not (B, P) booleans.
    """
    images = jnp.asarray(inputs["images"])
    donors, region = jnp.asarray(donors), jnp.asarray(region)
    if (donors.shape, donors.dtype) != (images.shape, images.dtype) or images.ndim != 3:
        raise ValueError(
            f"swap_region: images {images.dtype}{images.shape}, donors "
            f"{donors.dtype}{donors.shape}: two alike, (B, P, F), are meant"
        )
    if region.dtype != bool or region.shape != images.shape[:2]:
        raise ValueError(
            f"swap_region: region is booleans {images.shape[:2]}, got {region.dtype}{region.shape}"
        )
    mixed = jnp.where(region[..., None], donors, images)
    return _run(model, params, {**inputs, "images": mixed}, {})


def maps_and_gradients(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    score: Score,
) -> tuple[Float[Array, "L B H T P"], Float[Array, "L B H T P"]]:
    """Weights of the patches and the gradients of each example's score with respect to them.

    What `gradient_weighted_attention`, `attention_grad_cam` and `Relevancy` of `crossattn.align`
    take. The score of an example depends on its own logits alone.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on.
      score: of each example, of its logits: the log-probability of the word to predict.

    Raises:
      ValueError: a model whose words do not read patches themselves.
    """
    config = model.config
    between = config.connector or (config.preset if config.use in COMPOSED else "")
    if between or not config.attends:
        what = f"what {between} makes of them" if between else f"a view {config.context_view!r}"
        raise ValueError(
            f"maps_and_gradients: words read {what}, no patches: take a model whose words read "
            "patches themselves, like encoder_decoder_pre"
        )
    inputs = _one_image_each(inputs)
    found = gradients_of_maps(model, params, inputs, score, [readings(config)])
    P = inputs["visible"].shape[-1]
    (maps,), (gradients,) = found
    return maps[..., :P], gradients[..., :P]


def head_effects(
    model: VisionLanguageDecoder,
    params: Any,
    inputs: Mapping[str, Any],
    source: Activations,
    score: Score,
    *,
    kind: str = "output",
    at_once: int = 8,
) -> Float[Array, "L H B"]:
    """Scores with one head of one layer patched from `source`, for every head of every layer.

    One program: subtract the score without a patch for the effect of each head.

    Args:
      model: the model.
      params: its variables.
      inputs: what it is run on.
      source: activations of another run, by `capture`.
      score: of each example, of its logits.
      kind: which activation, of those of `Activations`.
      at_once: how many patched runs are computed side by side.

    Raises:
      ValueError: as `patch`.
    """
    L, _, H = source.map.shape[:3]
    one = jnp.eye(L * H, dtype=bool).reshape(L * H, L, 1, H, 1)
    effect = lambda where: score(patch(model, params, inputs, source, **{kind: where})[0])
    return jax.lax.map(effect, one, batch_size=min(at_once, L * H)).reshape(L, H, -1)


COMPOSED = ("connector", "bottleneck")


def _run(model, params, inputs, given):
    where = readings(model.config)
    variables = {**params, INTERVENTIONS: scattered(given, where)} if given else params
    inputs = _one_image_each(inputs)
    (logits, _), found = model.apply(variables, **inputs, mutable=[ACTIVATIONS])
    kept = (gathered(found[ACTIVATIONS], where, name) for name in Activations._fields)
    return logits, Activations(*kept)


def _one_image_each(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs in which every text has an image of its own, as its activations are its own."""
    texts = inputs["tokens"].shape[0] // inputs["images"].shape[0]
    axes = {"images": 0, "boxes": 0, "visible": -2}
    own = {
        name: jnp.repeat(inputs[name], texts, axis=axis)
        for name, axis in axes.items()
        if texts > 1 and inputs.get(name) is not None
    }
    return {**inputs, **own}
