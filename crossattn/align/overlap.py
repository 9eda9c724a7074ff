"""Overlap of the most attended patches with a region: intersection over union."""

from math import comb

import numpy as np

from crossattn.align.arguments import boolean, map_and_region, not_empty
from crossattn.align.ranking import ranked_region
from crossattn.shapes import Bool, Float

__all__ = ["attention_iou", "attention_iou_chance", "best_iou"]


def attention_iou(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """IoU of a region of G patches with the G most attended ones (DAAM, Tang et al. 2023).

    That is a threshold at the (1 - G/P) quantile; patches that tie with the last of them are in.
    Between 0 and 1, chance: `attention_iou_chance`. A row of zeros looks nowhere: 0. NaN where
    there is no region.

    Raises:
      ValueError: other shapes, no patches, weights that are not finite, a region not boolean.

    Example:
      >>> region = np.array([True, True, False, False])
      >>> round(float(attention_iou(np.array([0.4, 0.2, 0.3, 0.1]), region)), 4)
      0.3333
    """
    weights, region = map_and_region(weights, region)
    size = region.sum(axis=-1, keepdims=True)
    ranked = -np.sort(-weights, axis=-1)
    least = np.take_along_axis(ranked, np.maximum(size, 1) - 1, axis=-1)
    chosen = (weights >= least) & (weights != 0).any(axis=-1, keepdims=True)
    union = (chosen | region).sum(axis=-1)
    return np.where(size[..., 0] > 0, (chosen & region).sum(axis=-1) / np.maximum(union, 1), np.nan)


def best_iou(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> Float[np.ndarray, "..."]:
    """The largest IoU over all thresholds: an upper bound, since it chooses on the truth.

    A constant map has G/P of a region of G patches. A row of zeros looks nowhere: 0. NaN where
    there is no region.

    Raises:
      ValueError: as `attention_iou`.

    Example:
      >>> region = np.array([True, True, False, False])
      >>> round(float(best_iou(np.array([0.4, 0.2, 0.3, 0.1]), region)), 4)
      0.6667
    """
    weights, region = map_and_region(weights, region)
    inside, _, last = ranked_region(weights, region)
    # A threshold takes all of a tie.
    found = np.take_along_axis(inside.cumsum(axis=-1), last, axis=-1)
    size = region.sum(axis=-1, keepdims=True)
    iou = found / (last + 1 + np.maximum(size, 1) - found)
    best = iou.max(axis=-1) * (weights != 0).any(axis=-1)
    return np.where(size[..., 0] > 0, best, np.nan)


def attention_iou_chance(region: Bool[np.ndarray, "... P"]) -> Float[np.ndarray, "..."]:
    """The mean `attention_iou` of random weights without ties: G of P patches at random.

    Raises:
      ValueError: a region that is not boolean, or has no patches.

    Example:
      >>> float(attention_iou_chance(np.array([True, False, False, False])))
      0.25
    """
    region = not_empty("region", boolean("region", region), "... P")
    patches, sizes = region.shape[-1], region.sum(axis=-1)
    levels = np.full(patches + 1, np.nan)
    for size in np.unique(sizes[sizes > 0]).tolist():
        ways = [comb(size, hit) * comb(patches - size, size - hit) for hit in range(size + 1)]
        iou = [hit / (2 * size - hit) for hit in range(size + 1)]
        # Counts of ways are exact integers, too large for floats.
        levels[size] = sum(n / sum(ways) * value for n, value in zip(ways, iou, strict=True))
    return np.asarray(levels[sizes])
