"""Boxes: one around what a map looks at, and how well it fits the true one.

A box is ymin, xmin, ymax, xmax in shares of the sides. Patches are taken to tile the picture.
"""

import dataclasses

import numpy as np
from scipy.ndimage import label

from crossattn.align.arguments import finite_numbers
from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Float

__all__ = ["box_accuracy", "box_iou", "box_of_map"]

# A box is right whose overlap with the true one is so large (Yu et al. 2016 and before).
RIGHT = 0.5
# Patches of the box have at least this share of the largest weight.
SHARE = 0.5


def box_of_map(
    weights: Float[np.ndarray, "N P"], grid: tuple[int, int], share: float = SHARE
) -> Float[np.ndarray, "N 4"]:
    """The smallest box around the patches that hang together with the most attended one.

    Those are the patches of at least `share` of the largest weight, connected by their sides to
    the first of the largest (as boxes are drawn around class activation maps, Zhou et al. 2016).

    Args:
      weights: not negative; P patches in row-major order.
      grid: rows and columns.
      share: in (0, 1].

    Returns:
      ymin, xmin, ymax, xmax in shares of the sides; NaN for a map of zeros, which looks nowhere.

    Raises:
      ValueError: other shapes, weights below 0 or not finite, a share outside of (0, 1].

    Example:
      >>> box_of_map(np.array([[0.1, 0.8, 0.1, 0.5]]), (2, 2)).tolist()
      [[0.0, 0.5, 1.0, 1.0]]
    """
    weights = finite_numbers("weights", weights)
    if weights.ndim != 2 or weights.shape[1] != grid[0] * grid[1]:
        raise ValueError(f"weights have shape {weights.shape}, expected (N, P) on a grid of {grid}")
    if not 0 < share <= 1 or (weights < 0).any():
        raise ValueError(f"weights are 0 or more and a share is in (0, 1], got share {share}")
    boxes = np.full((len(weights), 4), np.nan)
    for row in np.flatnonzero(weights.any(axis=1)):
        square = weights[row].reshape(grid)
        peak = np.unravel_index(square.argmax(), grid)
        parts, _ = label(square >= share * square.max())
        down, along = np.nonzero(parts == parts[peak])
        boxes[row] = down.min(), along.min(), down.max() + 1, along.max() + 1
    return boxes / np.array([*grid, *grid])


def box_iou(
    box: Float[np.ndarray, "... 4"], other: Float[np.ndarray, "... 4"]
) -> Float[np.ndarray, "..."]:
    """Intersection over union of boxes; NaN where one of them is.

    Example:
      >>> float(box_iou(np.array([0, 0, 1, 0.5]), np.array([0, 0, 1, 1.0])))
      0.5
    """
    box, other = np.asarray(box, float), np.asarray(other, float)
    shared = np.minimum(box[..., 2:], other[..., 2:]) - np.maximum(box[..., :2], other[..., :2])
    inside = np.maximum(shared, 0).prod(axis=-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (box, other)]
    union = areas[0] + areas[1] - inside
    return np.divide(inside, union, out=np.full(np.shape(inside), np.nan), where=union > 0)


def box_accuracy(
    box: Float[np.ndarray, "... 4"], truth: Float[np.ndarray, "... 4"]
) -> Float[np.ndarray, "..."]:
    """1 where a box overlaps the true one by IoU >= 0.5, else 0; a box of NaN is wrong.

    Example:
      >>> box_accuracy(np.array([[0, 0, 1, 0.5]]), np.array([[0, 0, 1.0, 1]])).tolist()
      [1.0]
    """
    return (box_iou(box, truth) >= RIGHT).astype(float)


def _of_maps(maps: AttentionMaps) -> np.ndarray | None:
    if (found := _phrases(maps)) is None:
        return None
    weights, truth = found
    return box_accuracy(box_of_map(weights, maps.grid), truth)


def _whole_picture(maps: AttentionMaps) -> np.ndarray | None:
    if (found := _phrases(maps)) is None:
        return None
    if maps.shown is None:
        return box_accuracy(np.array([0.0, 0.0, 1.0, 1.0]), found[1])
    even, truth = _phrases(dataclasses.replace(maps, weights=maps.shown.astype(float))) or found
    return box_accuracy(box_of_map(even, maps.grid), truth)


def _phrases(maps: AttentionMaps) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean map of the words of each phrase that is about one box, and that box."""
    if maps.box is None or maps.phrase is None:
        return None
    known = np.isfinite(maps.box).all(axis=1)
    if not known.any():
        return None
    _, first, which = np.unique(maps.phrase[known], return_index=True, return_inverse=True)
    summed = np.zeros((len(first), maps.weights.shape[1]))
    np.add.at(summed, which, maps.weights[known])
    return summed / np.bincount(which)[:, None], maps.box[known][first]


register_measure(
    Measure(
        "box_accuracy",
        "attention",
        AttentionMaps,
        _of_maps,
        "Box accuracy: how often a box overlaps the true one by IoU 0.5; it is drawn around the "
        "patches that hang together with the most attended one and have half of its weight, in the "
        "mean map of the words of a phrase.",
        chance=_whole_picture,
        chance_meaning="Chance of box accuracy: attention that is everywhere the same, whose box "
        "is the whole picture.",
        column="box IoU >= 0.5",
    )
)
