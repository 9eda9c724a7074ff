"""How much of each window of a picture a region covers."""

import numpy as np

from crossattn.shapes import Bool, Float

__all__ = ["grid_side", "over_cells", "window_coverage"]


def window_coverage(
    region: Bool[np.ndarray, "N side side"], *, cell: int, window: int
) -> Float[np.ndarray, "N P"]:
    """The fraction of each window that the region covers, float32, windows in reading order.

    Windows of `window` x `window` cells of `cell` x `cell` pixels stand one cell apart and stay
    inside the image.

    Raises:
        ValueError: the cells do not divide the image, or a window is larger than it.

    Example:
        >>> corner = np.zeros((1, 6, 6), bool)
        >>> corner[0, :2, :2] = True
        >>> window_coverage(corner, cell=2, window=2)
        array([[0.25, 0.  , 0.  , 0.  ]], dtype=float32)
    """
    count, side, _ = region.shape
    grid_side(side, cell, window)
    cells = region.reshape(count, side // cell, cell, side // cell, cell).mean((2, 4), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(cells, (window, window), axis=(1, 2))
    return windows.mean((3, 4)).reshape(count, -1)


def grid_side(side: int, cell: int, window: int) -> int:
    """Windows along one side of a picture of `side` pixels.

    Raises:
        ValueError: the cells do not divide the side, or a window is larger than it.
    """
    if cell < 1 or side % cell:
        raise ValueError(f"cell={cell} does not divide the image's side of {side} pixels")
    if not 1 <= window <= side // cell:
        raise ValueError(
            f"window={window} cells: an image of {side} pixels has 1 to {side // cell} cells "
            f"of {cell} pixels a side"
        )
    return side // cell - window + 1


def over_cells(weights: np.ndarray, grid: tuple[int, int], window: int) -> np.ndarray:
    """Attention (..., P) over overlapping windows as attention over the cells that they see.

    Each window's weight is shared evenly by its `window` x `window` cells.

    Example:
        >>> over_cells(np.array([1.0, 0.0]), (1, 2), 2).reshape(2, 3)
        array([[0.25, 0.25, 0.  ],
               [0.25, 0.25, 0.  ]])
    """
    rows, columns = grid
    square = weights.reshape(*weights.shape[:-1], rows, columns) / window**2
    cells = np.zeros((*weights.shape[:-1], rows + window - 1, columns + window - 1))
    for i in range(window):
        for j in range(window):
            cells[..., i : i + rows, j : j + columns] += square
    return cells.reshape(*weights.shape[:-1], -1)
