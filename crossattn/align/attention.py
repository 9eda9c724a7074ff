"""Attention against the true region of a word. NumPy arrays in, numbers out, no model in sight.

Weights are those of one text position over P patches; a region is a boolean mask of patches, or the
share of each patch that the word's objects cover. Where a word has no region the value is NaN.
Both have one shape: numpy.broadcast_to says it where one region is meant for several rows.
"""

import numpy as np

from crossattn.align.arguments import (
    boolean,
    finite_numbers,
    map_and_region,
    not_negative,
    of_one_shape,
)
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


def pointing_chance(
    region: Bool[np.ndarray, "... P"], shown: Bool[np.ndarray, "... P"] | None = None
) -> Float[np.ndarray, "..."]:
    """Pointing of a patch drawn at random: the share of patches in the region.

    Args:
      region: of each word.
      shown: patches that show the picture, among which it is drawn; all if None.

    Example:
      >>> pointing_chance(np.array([[True, False, False, False]])).tolist()
      [0.25]
    """
    region = boolean("region", region)
    if shown is None:
        return np.where(region.any(axis=-1), region.mean(axis=-1), np.nan)
    region, shown = of_one_shape("... P", region=region, shown=boolean("shown", shown))
    count = np.maximum(shown.sum(axis=-1), 1)
    return np.where(region.any(axis=-1), (region & shown).sum(axis=-1) / count, np.nan)


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


def normalized_entropy(
    weights: Float[np.ndarray, "... P"], visible: Bool[np.ndarray, "... P"] | None = None
) -> Float[np.ndarray, "..."]:
    """Entropy of the attention over that of uniform attention to what is visible: H / log(n).

    0 where one position has it all, 1 where all visible ones have the same. Rows are scaled to a
    sum of 1. NaN where fewer than two positions are visible, or a row is zero.

    Args:
      weights: attention of each row.
      visible: what its mask lets it see; everything if None.

    Raises:
      ValueError: other shapes, weights below 0, not finite, or above 0 where nothing is visible.

    Example:
      >>> weights = np.array([[0.5, 0.5, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
      >>> visible = np.array([[True, True, True, True], [True, True, False, False]])
      >>> normalized_entropy(weights, visible).tolist()
      [0.5, 1.0]
    """
    seen = np.ones(np.shape(weights), bool) if visible is None else visible
    weights, seen = map_and_region(weights, boolean("visible", seen))
    if (not_negative("weights", weights)[~seen] > 0).any():
        raise ValueError("weights are above 0 where nothing is visible")
    total, count = weights.sum(axis=-1, keepdims=True), seen.sum(axis=-1)
    shares = weights / np.where(total > 0, total, 1)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=-1)
    defined = (count > 1) & (total[..., 0] > 0)
    return np.where(defined, entropy / np.log(np.maximum(count, 2)), np.nan)


def _entropy(maps: AttentionMaps) -> Float[np.ndarray, " N"] | None:
    # Talking heads mix their weights, which may be below 0: no distribution.
    if (maps.weights < 0).any():
        return None
    # A row that sees nothing looks nowhere in particular.
    return np.nan_to_num(normalized_entropy(maps.weights, maps.seen), nan=1.0)


def pointing_by_head(maps: AttentionMaps) -> Float[np.ndarray, "N H"]:
    """Pointing game of each head; one that sees nothing points nowhere: 0."""
    hit = np.take_along_axis(maps.region, maps.peaks.astype(int), axis=-1)
    return (hit & (maps.peaks >= 0)).astype(float)


def head_agreement(maps: AttentionMaps) -> Float[np.ndarray, " N"] | None:
    """Share of all pairs of heads whose most attended patches are the same; of heads that see."""
    heads = maps.peaks.shape[1]
    if heads < 2:
        return None
    same = (maps.peaks[:, :, None] == maps.peaks[:, None, :]) & (maps.peaks >= 0)[:, :, None]
    of_itself = (maps.peaks >= 0).sum(axis=1)
    return (same.sum(axis=(1, 2)) - of_itself) / (heads * (heads - 1))


def best_patch(maps: AttentionMaps) -> float:
    """Pointing of a constant guess: the one patch that is right most often."""
    return float(maps.region.mean(axis=0).max())


def _covered_share(maps: AttentionMaps) -> float:
    if maps.shown is None:
        return float(np.mean(maps.coverage))
    return float(np.mean(maps.coverage.sum(axis=1) / maps.shown.sum(axis=1)))


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
        chance=lambda maps: float(np.mean(pointing_chance(maps.region, maps.shown))),
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
        chance=_covered_share,
        chance_meaning="Chance, for mass: the share of the picture that the region covers.",
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
register_measure(
    Measure(
        "entropy",
        "attention",
        AttentionMaps,
        _entropy,
        "Entropy: of the attention over patches, in units of that of uniform attention: 0 where "
        "one patch has it all.",
        chance=1.0,
        chance_meaning="Chance of entropy: attention that is everywhere the same.",
    )
)
register_measure(
    Measure(
        "head_agreement",
        "attention",
        AttentionMaps,
        head_agreement,
        "Head agreement: the share of all pairs of heads that attend most to the same patch.",
        chance=lambda maps: float(np.mean(1 / maps.seen.sum(axis=1))),
        chance_meaning="Chance of head agreement: heads that each attend most to a patch picked at "
        "random.",
    )
)
