"""Pictures on a canvas of square cells: squeezed into it, or in their native aspect ratio.

A picture of native aspect ratio lies at the upper left, scaled down until it fits and never
enlarged; its sides become whole cells (Dehghani et al. 2023, NaViT). Which cells show it is said
beside the pixels, so that the others are hidden from every model, and a cell keeps its row and
column of the true grid as its position.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossattn.data.dataset import CELL
from crossattn.data.errors import DataError
from crossattn.data.orientation import Sides
from crossattn.shapes import Bool, UInt8

__all__ = ["Canvas", "Shown", "shown_windows"]

# Of cells that show nothing.
GREY = 127
Pixels = UInt8[np.ndarray, "height width 3"]


class Shown(NamedTuple):
    """Pictures on a canvas.

    Attributes:
        pixels: (side, side, 3) uint8.
        cells: which cells of it show a picture; None where all do.
        share: of the canvas's height and width that the first picture takes.
    """

    pixels: UInt8[np.ndarray, "side side 3"]
    cells: Bool[np.ndarray, "rows columns"] | None = None
    share: tuple[float, float] = (1.0, 1.0)


@dataclasses.dataclass(frozen=True)
class Canvas:
    """A square of so many pixels a side, for one picture or for several side by side.

    Example:
        >>> Canvas(64, native=True).fit((640, 480)), Canvas(64, native=True).fit((20, 300))
        ((64, 48), (8, 64))
    """

    side: int
    native: bool = False

    @property
    def about(self) -> str:
        """What becomes of pictures, in words."""
        size = f"{self.side} x {self.side} pixels"
        if self.native:
            return f"pictures keep their aspect ratio, scaled down until they fit into {size}"
        return f"pictures are squeezed into {size}"

    def fit(self, whole: Sides, across: int = 1) -> Sides:
        """Width and height of a picture on the canvas, of so many side by side."""
        if not self.native:
            return self.side, self.side
        limits = self.side // across, self.side
        scale = min(1.0, *(limit / side for limit, side in zip(limits, whole, strict=True)))
        width, height = (max(1, round(side * scale / CELL)) * CELL for side in whole)
        return width, height

    def show(self, every: Sequence[Pixels]) -> Shown:
        """Pictures of the size that `fit` says, the first at the left.

        Raises:
            DataError: cells do not divide what each has of the canvas.
        """
        across = len(every)
        if not self.native:
            return Shown(every[0] if across == 1 else _narrowed(every))
        if self.side % (CELL * across):
            raise DataError(
                f"{across} pictures side by side want data.image_size to be a multiple of "
                f"{CELL * across}, got {self.side}"
            )
        pixels = np.full((self.side, self.side, 3), GREY, np.uint8)
        cells = np.zeros((self.side // CELL, self.side // CELL), bool)
        for number, one in enumerate(every):
            left, (height, width) = number * self.side // across, one.shape[:2]
            pixels[:height, left : left + width] = one
            cells[: height // CELL, left // CELL : (left + width) // CELL] = True
        height, width = every[0].shape[:2]
        return Shown(pixels, cells, (height / self.side, width / self.side))


def _narrowed(every: Sequence[Pixels]) -> Pixels:
    """Two pictures side by side, each half as wide."""
    side = len(every[0])
    halves = [pixels.reshape(side, side // 2, 2, 3).mean(axis=2) for pixels in every]
    return np.rint(np.concatenate(halves, axis=1)).astype(np.uint8)


def shown_windows(cells: Bool[np.ndarray, "rows columns"], window: int) -> Bool[np.ndarray, " P"]:
    """The windows of `window` x `window` cells of which each shows a picture.

    Of a picture that is narrower than a window, those that show any of it.

    Example:
        >>> shown_windows(np.array([[True, True, False]] * 2), 2).tolist()
        [True, False]
    """
    seen = np.lib.stride_tricks.sliding_window_view(cells, (window, window))
    whole = seen.all(axis=(2, 3))
    return (whole if whole.any() else seen.any(axis=(2, 3))).ravel()
