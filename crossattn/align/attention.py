"""Attention against the true region of a word. NumPy arrays in, numbers out, no model in sight.

Weights are those of one text position over P patches; a region is a boolean mask of patches, or the
share of each patch that the word's objects cover. Where a word has no region the value is NaN.
Both have one shape: numpy.broadcast_to says it where one region is meant for several rows.
"""

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, of_one_shape
from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Bool, Float


def pointing(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """Pointing game: 1 where the most attended patch lies in the region, else 0 (Zhang 2016).

    An attention row that sees nothing (all zero) points nowhere: 0.

    Raises:
      ValueError: other shapes, weights that are not finite, a region that is not boolean.

    Example:
      >>> weights = np.array([[0.1, 0.7, 0.2], [0.6, 0.4, 0.0]])
      >>> pointing(weights, np.array([[False, True, True], [False, True, True]])).tolist()
      [1.0, 0.0]
    """
    weights, region = of_one_shape(
        "... P", weights=finite_numbers("weights", weights), region=region
    )
    region = boolean("region", region)
    peak = weights.argmax(axis=-1)[..., None]
    hit = np.take_along_axis(region, peak, axis=-1)[..., 0]
    hit = hit & (weights.max(axis=-1) > 0)
    return np.where(region.any(axis=-1), hit.astype(float), np.nan)


def pointing_chance(region: Bool[np.ndarray, "... P"]) -> Float[np.ndarray, "..."]:
    """Pointing of a patch drawn at random: the share of patches in the region.

    Example:
      >>> pointing_chance(np.array([[True, False, False, False]])).tolist()
      [0.25]
    """
    region = boolean("region", region)
    return np.where(region.any(axis=-1), region.mean(axis=-1), np.nan)


def mass_in_region(
    weights: Float[np.ndarray, "... P"], coverage: Float[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """Attention mass inside the region, patches counting by their covered share (Wang 2020).

    Raises:
      ValueError: other shapes, weights that are not finite, a coverage outside of [0, 1].

    Example:
      >>> mass_in_region(np.array([[0.5, 0.5]]), np.array([[1.0, 0.5]])).tolist()
      [0.75]
    """
    weights, coverage = of_one_shape(
        "... P",
        weights=finite_numbers("weights", weights),
        coverage=finite_numbers("coverage", coverage),
    )
    # A share that was divided in float32 may be 1 and a bit.
    if coverage.size and not 0 <= coverage.min() <= coverage.max() <= 1 + 1e-5:
        span = f"{coverage.min():g} to {coverage.max():g}"
        raise ValueError(f"coverage is the covered share of each patch, 0 to 1, got {span}")
    mass = np.einsum("...p,...p->...", weights, coverage)
    return np.where((coverage > 0).any(axis=-1), mass, np.nan)


def pointing_by_head(maps: AttentionMaps) -> Float[np.ndarray, "N H"]:
    """Pointing game of each head; one that sees nothing points nowhere: 0."""
    hit = np.take_along_axis(maps.region, maps.peaks.astype(int), axis=-1)
    return (hit & (maps.peaks >= 0)).astype(float)


def best_patch(maps: AttentionMaps) -> float:
    """Pointing of a constant guess: the one patch that is right most often."""
    return float(maps.region.mean(axis=0).max())


def _image_mass(maps: AttentionMaps) -> np.ndarray | None:
    # Where the softmax covers more than the image; elsewhere it is 1 and says nothing.
    return maps.image_mass if maps.image_mass.min() < 1 - 1e-4 else None


register_measure(
    Measure(
        "pointing",
        "attention",
        AttentionMaps,
        lambda maps: pointing(maps.weights, maps.region),
        "Pointing: how often the most attended patch lies on the true region.",
        chance=lambda maps: float(np.mean(pointing_chance(maps.region))),
        chance_meaning="Chance, for pointing: the mean share of the patches that belong to the "
        "region, which is what a patch picked at random reaches.",
        headline={"*": "pointing"},
        by_head=pointing_by_head,
        levels={"fixed_patch": best_patch},
    )
)
register_measure(
    Measure(
        "mass",
        "attention",
        AttentionMaps,
        lambda maps: mass_in_region(maps.weights, maps.coverage),
        "Mass: the share of the attention inside the region, patches counting by the share of "
        "them that it covers.",
    )
)
register_measure(
    Measure(
        "image_mass",
        "attention",
        AttentionMaps,
        _image_mass,
        "Image mass: the share of the attention that falls on the image where it may also fall "
        "on text.",
        headline={"*": "image mass"},
        by_layer=False,
    )
)
