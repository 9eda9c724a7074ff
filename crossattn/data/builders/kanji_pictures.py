"""Four parts in their positions as a picture: real strokes, put together as characters are."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossattn.data.builders.strokes import draw_strokes
from crossattn.shapes import Float, UInt8

__all__ = ["POSITIONS", "PlacedPart", "draw_parts", "hold_out", "place_parts"]

POSITIONS = ("upper left", "upper right", "lower left", "lower right")
# Of the picture: how large characters are. Of a character: the share of the left and of the upper
# parts, their distance from the others, the width of strokes.
SMALLEST, LARGEST = 0.8, 1.0
FIRST_SHARE = 0.44, 0.56
GAP = 0.06
THINNEST, THICKEST = 0.025, 0.045
# How many times as much a part is stretched along one side as along the other, at most.
STRETCH = 2.0
# A pixel belongs to the part that covers most of it, from this share on.
COVERED = 0.4
# One part of so many lacks a position in training.
EVERY = 3


class PlacedPart(NamedTuple):
    """A part and its position."""

    element: str
    position: str


def hold_out(elements: Sequence[str]) -> set[PlacedPart]:
    """Pairs that training lacks: every third part in one position, by turns."""
    turns = itertools.cycle(POSITIONS)
    return {PlacedPart(element, next(turns)) for element in elements[::EVERY]}


def place_parts(
    draw: np.random.Generator, elements: Sequence[str], held: set[PlacedPart], *, new: bool
) -> list[PlacedPart]:
    """Different parts, one in each position; without a held-out pair, or with one."""
    while True:
        chosen = draw.choice(len(elements), len(POSITIONS), replace=False)
        placed = [
            PlacedPart(elements[n], position) for n, position in zip(chosen, POSITIONS, strict=True)
        ]
        if bool(held.intersection(placed)) == new:
            return placed


def draw_parts(
    draw: np.random.Generator,
    strokes: Sequence[Sequence[Float[np.ndarray, "_ 2"]]],
    size: int,
) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"]]:
    """A character of some size, place, width and shade, and its parts as regions.

    Args:
        draw: what is drawn follows from it.
        strokes: of the part in each position; it is stretched to its place.
        size: side of the picture in pixels.

    Returns:
        Pixels, and regions: o + 1 for part o, 0 for all else.
    """
    side = float(draw.uniform(SMALLEST, LARGEST)) * size
    corner = draw.uniform(0, size - side, 2)
    width = float(draw.uniform(THINNEST, THICKEST)) * side
    first = draw.uniform(*FIRST_SHARE, 2)
    fitted = []
    for number, own in enumerate(strokes):
        # 0 or 1 in x and in y.
        behind = np.array([number % 2, number // 2])
        low = np.where(behind, first + GAP / 2, 0.0) * side + width / 2
        high = np.where(behind, 1.0, first - GAP / 2) * side - width / 2
        fitted.append(_fit(own, low + corner, high + corner))
    shares = [draw_strokes(own, size, width) for own in fitted]
    ink, paper = int(draw.integers(0, 90)), int(draw.integers(170, 256))
    grey = np.rint(paper + (ink - paper) * np.max(shares, axis=0)).astype(np.uint8)
    most = np.stack([np.full((size, size), COVERED), *shares]).argmax(axis=0)
    return np.repeat(grey[..., None], 3, axis=-1), most.astype(np.uint8)


def _fit(
    strokes: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray
) -> list[Float[np.ndarray, "_ 2"]]:
    """Strokes in the middle of a box, as large as it allows."""
    points = np.concatenate(strokes)
    start, end = points.min(axis=0), points.max(axis=0)
    scale = (high - low) / np.maximum(end - start, 1.0)
    scale = np.minimum(scale, STRETCH * scale.min())
    middle = (low + high) / 2
    return [(stroke - (start + end) / 2) * scale + middle for stroke in strokes]
