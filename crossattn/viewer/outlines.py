"""True regions of words: their outline, and how much of each patch they cover."""

import numpy as np

# Longest side of a mask whose outline is drawn: finer than a line on the page is not seen.
LONGEST = 256


def covered_shares(region: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """The share of each patch (rows, columns) that lies in a region (h, w), bool.

    Patches need not be a whole number of pixels.

    Example:
      >>> covered_shares(np.array([[1, 0, 0], [1, 0, 0]], bool), (1, 2)).round(3)
      array([[0.667, 0.   ]])
    """
    down, across = (_overlaps(*sizes) for sizes in zip(grid, region.shape, strict=True))
    return down @ region @ across.T


def _overlaps(patches: int, pixels: int) -> np.ndarray:
    """The share of each patch that each pixel covers (patches, pixels) along one axis."""
    edges = np.arange(patches + 1)[:, None] * (pixels / patches)
    pixel = np.arange(pixels)
    covered = np.minimum(pixel + 1, edges[1:]) - np.maximum(pixel, edges[:-1])
    return np.maximum(covered, 0) * (patches / pixels)


def outline_path(region: np.ndarray) -> tuple[int, int, str]:
    """Height, width and the SVG path of the edges of a region (h, w), bool.

    Each run of edges is a line. Of a large region blocks of pixels are drawn that it touches, so
    that a small one in a large picture is not lost.

    Example:
      >>> outline_path(np.array([[1, 1], [0, 0]], bool))
      (2, 2, 'M0 0h2M0 1h2M0 0v1M2 0v1')
    """
    step = -(-max(region.shape) // LONGEST)
    for axis, size in enumerate(region.shape):
        region = np.logical_or.reduceat(region, np.arange(0, size, step), axis=axis)
    framed = np.pad(region, 1)
    flat = framed[1:, 1:-1] != framed[:-1, 1:-1]
    upright = framed[1:-1, 1:] != framed[1:-1, :-1]
    lines = [f"M{x} {y}h{n}" for y, x, n in _runs(flat)]
    lines += [f"M{x} {y}v{n}" for x, y, n in _runs(upright.T)]
    return region.shape[0], region.shape[1], "".join(lines)


def _runs(edges: np.ndarray) -> list[tuple[int, int, int]]:
    """Line, start and length of each run of true values within a line."""
    change = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    line, start = np.nonzero(change == 1)
    stop = np.nonzero(change == -1)[1]
    return list(zip(line.tolist(), start.tolist(), (stop - start).tolist(), strict=True))
