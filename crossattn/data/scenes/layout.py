"""Where the objects of a scene stand: apart from one another, and never level."""

import numpy as np

from crossattn.data.splitmix import SplitMix64

__all__ = ["GROUND", "MOST", "RADII", "lay_out"]

GROUND = 64  # the ground is 64 by 64 units, one pixel each at size 64
MOST = 6  # objects in a scene
RADII = (6, 7, 8, 9)
REACH = 10  # no shape reaches further from its centre than 1.1 radii
MARGIN = 3  # between the circles of two objects, and what every relation needs to be decided
TRIES = 60  # for one object, before its scene starts anew


def lay_out(stream: SplitMix64, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw centres and radii, one object of every unfinished scene at a time.

    Args:
        stream: where the draws come from.
        counts: (N,) objects of each scene, at most `MOST`.

    Returns:
        centres (N, MOST, 2) int64 as (x, y) with y downwards, and radii (N, MOST) int64, both 0
        where there is no object. Any two objects of a scene keep at least `MARGIN` units between
        their circles and between their centres in x and in y.
    """
    total = len(counts)
    centre = np.zeros((total, MOST, 2), np.int64)
    radius = np.zeros((total, MOST), np.int64)
    placed, failed = np.zeros(total, np.int64), np.zeros(total, np.int64)
    while (open_scenes := np.flatnonzero(placed < counts)).size:
        size = np.array(RADII)[stream.below(len(RADII), open_scenes.size)]
        span = GROUND - 2 * (size + 1)  # one unit of ground stays between an object and the edge
        draws = stream.below(1 << 16, 2 * open_scenes.size).reshape(-1, 2)
        spot = size[:, None] + 1 + (draws * (span + 1)[:, None] >> 16)
        apart = np.abs(spot[:, None] - centre[open_scenes])
        clear = (apart**2).sum(-1) >= (size[:, None] + radius[open_scenes] + MARGIN) ** 2
        clear &= (apart >= MARGIN).all(-1)
        clear |= np.arange(MOST) >= placed[open_scenes, None]
        good = clear.all(-1)
        kept = open_scenes[good]
        centre[kept, placed[kept]], radius[kept, placed[kept]] = spot[good], size[good]
        placed[kept] += 1
        failed[kept] = 0
        failed[open_scenes[~good]] += 1
        placed[failed >= TRIES] = 0
        failed[failed >= TRIES] = 0
    return centre, radius
