"""Attention as a saliency map: how well a map of P patches predicts a region, over leading axes.

The definitions are those of the saliency benchmark (Bylinskii et al. 2019, "What do different
evaluation metrics tell us about saliency models?"). Rank statistics, of which ties count one half,
are unchanged by any increasing function of the weights; NSS, CC, SIM and KL are not. Where there is
no region, or nothing outside of it, there is nothing to find: NaN.
"""

import numpy as np

from crossattn.align.arguments import (
    finite_numbers,
    map_and_region,
    not_empty,
    not_negative,
    of_one_shape,
)
from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import Measure, register_measure
from crossattn.align.ranking import ranked_region
from crossattn.shapes import Bool, Float

__all__ = [
    "average_precision",
    "kl_from_region",
    "nss",
    "pearson_cc",
    "roc_auc",
    "saliency_chance",
    "similarity",
]


def roc_auc(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """Area under the ROC curve: how often a patch inside has more weight than one outside.

    Between 0 and 1, chance 0.5, which is also what a constant map has (Judd et al. 2012).

    Raises:
      ValueError: other shapes, no patches, weights that are not finite, a region not boolean.

    Example:
      >>> region = np.array([True, True, False, False])
      >>> float(roc_auc(np.array([0.4, 0.2, 0.3, 0.1]), region))
      0.75
    """
    weights, region = map_and_region(weights, region)
    inside, first, last = ranked_region(weights, region)
    outside = ~inside
    upto = outside.cumsum(axis=-1)
    before = np.take_along_axis(upto - outside, first, axis=-1)
    upto_tie = np.take_along_axis(upto, last, axis=-1)
    count = outside.sum(axis=-1, keepdims=True)
    won = (count - (upto_tie + before) / 2) / np.maximum(count, 1)
    return np.where(_decidable(region), _mean_inside(won, inside), np.nan)


def average_precision(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """Average precision: the mean, over patches inside, of the precision down to their weight.

    Between 0 and 1; a constant map has the share of patches inside, which is the level of chance.

    Raises:
      ValueError: as `roc_auc`.

    Example:
      >>> region = np.array([True, True, False, False])
      >>> round(float(average_precision(np.array([0.4, 0.2, 0.3, 0.1]), region)), 4)
      0.8333
    """
    weights, region = map_and_region(weights, region)
    inside, _, last = ranked_region(weights, region)
    precision = np.take_along_axis(inside.cumsum(axis=-1), last, axis=-1) / (last + 1)
    return np.where(_decidable(region), _mean_inside(precision, inside), np.nan)


def nss(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """Normalised scanpath saliency: the mean weight inside, in standard deviations of the map.

    Chance 0, which is also what a constant map has; unbounded (Peters et al. 2005).

    Raises:
      ValueError: as `roc_auc`.

    Example:
      >>> region = np.array([True, False, False, False])
      >>> round(float(nss(np.array([0.7, 0.1, 0.1, 0.1]), region)), 4)
      1.7321
    """
    weights, region = map_and_region(weights, region)
    return np.where(_decidable(region), _mean_inside(_standardised(weights), region), np.nan)


def pearson_cc(
    weights: Float[np.ndarray, "... P"], density: Float[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """CC: Pearson's correlation of the map with the true density, which may be a mask as numbers.

    Between -1 and 1, chance 0, which is also what a constant map has. NaN where the density is
    constant.

    Raises:
      ValueError: other shapes, no patches, numbers that are not finite, a density below 0.

    Example:
      >>> round(float(pearson_cc(np.array([0.7, 0.1, 0.2]), np.array([1.0, 0.0, 0.0]))), 4)
      0.9878
    """
    weights, density = _map_and_density(weights, density)
    product = (_standardised(weights) * _standardised(density)).mean(axis=-1)
    return np.where(density.max(axis=-1) > density.min(axis=-1), product, np.nan)


def similarity(
    weights: Float[np.ndarray, "... P"], density: Float[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """SIM: the mass that two distributions have in common, both scaled to a sum of 1.

    Between 0 and 1. A map of zeros has nothing in common with anything: 0. NaN where the density
    is 0 everywhere. The level of chance is that of a constant map: `saliency_chance`.

    Raises:
      ValueError: as `pearson_cc`, or weights below 0.

    Example:
      >>> float(similarity(np.array([0.5, 0.25, 0.25]), np.array([1.0, 1.0, 0.0])))
      0.75
    """
    weights, density = _map_and_density(weights, density)
    common = np.minimum(_distribution("weights", weights), _distribution("density", density))
    return np.where(density.any(axis=-1), common.sum(axis=-1), np.nan)


def kl_from_region(
    weights: Float[np.ndarray, "... P"],
    density: Float[np.ndarray, "... P"],
    *,
    epsilon: float = 1e-20,
) -> Float[np.ndarray, "..."]:
    """KL divergence of the true density from the map, in nats: what the map misses of it.

    sum_p q log(epsilon + q / (w + epsilon)) with both scaled to a sum of 1, as MIT's benchmark has
    it with epsilon 2.2204e-16. 0 is best; a map that misses a patch pays up to -log(epsilon). The
    level of chance is that of a constant map: `saliency_chance`. NaN where the density is 0.

    Raises:
      ValueError: as `similarity`, or an epsilon that is not above 0.

    Example:
      >>> round(float(kl_from_region(np.array([0.5, 0.5]), np.array([1.0, 0.0]))), 4)  # log 2
      0.6931
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon is above 0, got {epsilon}")
    weights, density = _map_and_density(weights, density)
    truth = _distribution("density", density)
    ratio = truth / (_distribution("weights", weights) + epsilon)
    loss = (truth * np.log(epsilon + ratio)).sum(axis=-1)
    return np.where(density.any(axis=-1), loss, np.nan)


def saliency_chance(density: Float[np.ndarray, "... P"]) -> dict[str, Float[np.ndarray, "..."]]:
    """What a constant map has of each of these measures, for a density or a mask as numbers.

    Raises:
      ValueError: as `pearson_cc`.

    Example:
      >>> chance = saliency_chance(np.array([1.0, 0.0, 0.0, 0.0]))
      >>> {name: round(float(level), 3) for name, level in chance.items()}
      {'auc': 0.5, 'ap': 0.25, 'nss': 0.0, 'cc': 0.0, 'sim': 0.25, 'kl': 1.386}
    """
    _, density = _map_and_density(np.zeros_like(density, np.float64), density)
    constant, region = np.ones(density.shape), density > 0
    return {
        "auc": roc_auc(constant, region),
        "ap": average_precision(constant, region),
        "nss": nss(constant, region),
        "cc": pearson_cc(constant, density),
        "sim": similarity(constant, density),
        "kl": kl_from_region(constant, density),
    }


def _map_and_density(weights, density):
    weights, density = of_one_shape(
        "... P",
        weights=finite_numbers("weights", weights),
        density=finite_numbers("density", density),
    )
    not_empty("weights", weights, "... P")
    return weights.astype(np.float64), not_negative("density", density).astype(np.float64)


def _decidable(region):
    return region.any(axis=-1) & ~region.all(axis=-1)


def _mean_inside(values, inside):
    return (values * inside).sum(axis=-1) / np.maximum(inside.sum(axis=-1), 1)


def _standardised(values):
    """By the population's deviation; a constant is zero, whatever rounding makes of its mean."""
    constant = values.max(axis=-1, keepdims=True) == values.min(axis=-1, keepdims=True)
    deviation = np.where(constant, 1, values.std(axis=-1, keepdims=True))
    return np.where(constant, 0, (values - values.mean(axis=-1, keepdims=True)) / deviation)


def _distribution(name, values):
    total = not_negative(name, values).sum(axis=-1, keepdims=True)
    return values / np.where(total > 0, total, 1)


def _alike(seen):
    """Rows that see the same patches, and these."""
    patterns, which = np.unique(seen, axis=0, return_inverse=True)
    return [(which.reshape(-1) == number, own) for number, own in enumerate(patterns)]


def _auc(maps: AttentionMaps) -> np.ndarray | None:
    values = np.concatenate(
        [
            roc_auc(maps.weights[rows][:, seen], maps.region[rows][:, seen])
            for rows, seen in _alike(maps.seen)
        ]
    )
    # Of a region that is the whole picture there is nothing to rank.
    values = values[~np.isnan(values)]
    return values if len(values) else None


register_measure(
    Measure(
        "auc",
        "attention",
        AttentionMaps,
        _auc,
        "AUC: how often a patch of the region has more attention than one outside of it.",
        chance=0.5,
        chance_meaning="Chance of AUC: random attention, or attention that is everywhere the same.",
        column="AUC",
    )
)
