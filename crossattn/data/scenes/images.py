"""How a scene looks: masks, pixels, coverage of patches, and symbolic features.

All shapes are decided in integers, so that a picture is the same to the bit on every machine.
"""

import functools

import numpy as np

from crossattn.data.scenes.language import COLOURS, SHAPES
from crossattn.data.scenes.layout import GROUND, RADII, REACH
from crossattn.data.splitmix import SplitMix64

__all__ = ["CELL", "FEATURES", "GRID", "coverage", "features", "masks", "render"]

GRID = (8, 8)  # patches
CELL = 8  # units of a patch along one side
FEATURES = len(COLOURS) + len(SHAPES) + 3
WINDOW = 32  # units of a stamp: four whole patches, enough for an object at any place in a patch
CHUNK = 256  # scenes at a time, which bounds the memory

# Bright on a dark ground, and of different lightness, so that nobody needs hue alone.
PALETTE = np.array(
    [
        (230, 57, 53),
        (253, 216, 53),
        (60, 180, 110),
        (48, 110, 240),
        (244, 143, 200),
        (250, 250, 250),
    ],
    np.uint8,
)
DARK = 58  # the mean grey of the ground

# Corners in hundredths of the radius. Star: a pentagram of outer radius 1.1.
TRIANGLE = ((0, -110), (95, 55), (-95, 55))
SQUARE = ((-77, -77), (77, -77), (77, 77), (-77, 77))
CROSS = (
    *((-32, -100), (32, -100), (32, -32), (100, -32), (100, 32), (32, 32)),
    *((32, 100), (-32, 100), (-32, 32), (-100, 32), (-100, -32), (-32, -32)),
)
STAR = (
    *((0, -110), (28, -38), (105, -34), (45, 15), (65, 89)),
    *((0, 47), (-65, 89), (-45, 15), (-105, -34), (-28, -38)),
)
POLYGONS = {"triangle": TRIANGLE, "square": SQUARE, "cross": CROSS, "star": STAR}
HOLE = 55  # hundredths of the radius of a ring


def inside(shape: str, radius: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Say which points lie in a shape; coordinates are integers, in hundredths of a half unit."""
    if shape in ("circle", "ring"):
        distance = x * x + y * y
        hole = (2 * radius * HOLE) ** 2 if shape == "ring" else -1
        return (distance <= (2 * radius * 100) ** 2) & (distance > hole)
    corners = [(2 * radius * cx, 2 * radius * cy) for cx, cy in POLYGONS[shape]]
    within = np.zeros(np.broadcast_shapes(x.shape, y.shape), bool)
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        # Even-odd rule: count the edges that a ray to the right crosses.
        crosses = (y1 > y) != (y2 > y)
        beyond = (x2 - x1) * (y - y1) - (x - x1) * (y2 - y1)
        within ^= crosses & ((beyond > 0) == (y2 > y1))
    return within


@functools.cache
def stamps(size: int) -> np.ndarray:
    """Draw every shape in every radius at every place within a patch.

    Returns:
        (shapes, radii, CELL, CELL, window, window) bool, window in pixels; the centre of the object
        is `REACH` units plus its place (y, x) from the window's corner.
    """
    step = GROUND // size  # units of a pixel
    pixel = (2 * np.arange(WINDOW // step) + 1) * step
    offset = 100 * (pixel - 2 * (REACH + np.arange(CELL)[:, None]))
    y, x = offset[:, None, :, None], offset[None, :, None, :]
    return np.stack([[inside(shape, r, x, y) for r in RADII] for shape in SHAPES])


@functools.cache
def patch_stamps(size: int) -> np.ndarray:
    """Sum every stamp over its patches.

    Returns:
        (shapes, radii, CELL, CELL, 4, 4, 3) float32: the fraction of the patch that is covered, and
        the mean of mask times x and of mask times y, measured from the middle of the patch and
        scaled so that a patch with one half covered reads one half.
    """
    drawn = stamps(size)
    side = CELL * size // GROUND  # pixels of a patch
    place = (2 * np.arange(side) + 1 - side) / (side / 2)
    measures = np.stack(
        [np.ones((side, side)), np.tile(place, (side, 1)), np.tile(place[:, None], side)], -1
    )
    split = drawn.reshape(*drawn.shape[:4], 4, side, 4, side).astype(np.float32)
    # Powers of two and small integers: every sum is exact in float32, in whatever order.
    return np.einsum("srqpaibj,ijm->srqpabm", split, measures.astype(np.float32) / side**2)


def _stamp_index(shape: np.ndarray, radius: np.ndarray, centre: np.ndarray) -> tuple:
    """Choose the stamp of every object; those that are not there (radius 0) get any."""
    place = centre - REACH
    kind = np.maximum(shape, 0), np.maximum(radius - RADII[0], 0)
    return (*kind, place[..., 1] % CELL, place[..., 0] % CELL)


def cover(shape: np.ndarray, radius: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Measure how objects cover patches.

    Args:
        shape: (N, O) integers, -1 where there is no object.
        radius: (N, O) integers.
        centre: (N, O, 2) integers, x and y.
        size: pixels along one side of the picture.

    Returns:
        (N, O, P, 3) float32: coverage and its two moments, as in `patch_stamps`.
    """
    count, things = shape.shape
    stamp = patch_stamps(size)[_stamp_index(shape, radius, centre)]
    stamp = stamp * (shape >= 0)[..., None, None, None].astype(np.float32)
    corner = (centre - REACH) // CELL + 2  # two patches of rim on every side of the canvas
    canvas = np.zeros((count, things, GRID[0] + 4, GRID[1] + 4, 3), np.float32)
    n, o = np.arange(count)[:, None, None, None], np.arange(things)[:, None, None]
    rows = corner[..., 1, None, None] + np.arange(4)[:, None]
    columns = corner[..., 0, None, None] + np.arange(4)
    canvas[n, o, rows, columns] = stamp
    return canvas[:, :, 2:-2, 2:-2].reshape(count, things, -1, 3)


def coverage(shape: np.ndarray, radius: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Give the fraction of patch p that object o covers, (N, O, P) float32; see `cover`."""
    return np.ascontiguousarray(cover(shape, radius, centre, size)[..., 0])


def masks(shape: np.ndarray, radius: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Give maps of objects, (N, size, size) uint8: 0 for the ground, o + 1 for object o.

    Arguments as `cover`.
    """
    step, window = GROUND // size, WINDOW * size // GROUND
    rim = 2 * CELL // step
    canvas = np.zeros((len(shape), size + 2 * rim, size + 2 * rim), np.uint8)
    n = np.arange(len(shape))[:, None, None]
    for thing in range(shape.shape[1]):
        own = shape[:, thing], radius[:, thing], centre[:, thing]
        stamp = stamps(size)[_stamp_index(*own)] & (own[0] >= 0)[:, None, None]
        corner = ((own[2] - REACH) // CELL * CELL) // step + rim
        rows = corner[:, 1, None, None] + np.arange(window)[:, None]
        columns = corner[:, 0, None, None] + np.arange(window)
        canvas[n, rows, columns] |= stamp.astype(np.uint8) * np.uint8(thing + 1)
    return canvas[:, rim:-rim, rim:-rim].copy()


def render(
    maps: np.ndarray, colour: np.ndarray, stream: SplitMix64, scenes: np.ndarray
) -> np.ndarray:
    """Paint scenes.

    Args:
        maps: (n, size, size) uint8 from `masks`.
        colour: (n, O) integers.
        stream: the noise of the split.
        scenes: (n,) the numbers of the scenes, which choose their noise.

    Returns:
        (n, size, size, 3) uint8: flat colours on dark grey, both with a noise of up to 15 levels.
    """
    size = maps.shape[1]
    paint = np.concatenate([np.full((1, 3), DARK, np.uint8), PALETTE])
    label = np.pad(colour + 1, ((0, 0), (1, 0)))  # the ground is paint 0
    picture = paint[label[np.arange(len(maps))[:, None, None], maps]].astype(np.int16)
    places = scenes[:, None, None] * size**2 + np.arange(size**2).reshape(size, size)
    word, halves = stream.at(places), np.uint64(0x0F0F0F0F0F0F0F0F)
    # Two half bytes are added in every byte at once; three bytes serve the three channels.
    noise = (word & halves) + ((word >> np.uint64(4)) & halves)
    channels = noise.astype("<u8").view(np.uint8).reshape(*noise.shape, 8)[..., :3]
    return np.clip(picture + channels.astype(np.int16) - 15, 0, 255).astype(np.uint8)


def features(
    covered: np.ndarray,
    attributes: tuple[np.ndarray, np.ndarray],
    stream: SplitMix64,
    scenes: np.ndarray,
    *,
    noise: float,
) -> np.ndarray:
    """Describe patches symbolically, as a perfect but noisy eye that looks at one patch alone.

    Args:
        covered: (n, O, P, 3) from `cover`.
        attributes: colour and shape of the objects, (n, O) integers each, -1 for none.
        stream: the noise of the split.
        scenes: (n,) the numbers of the scenes, which choose their noise.
        noise: standard deviation of what is added to every feature.

    Returns:
        (n, P, FEATURES) float32: the coverage by each colour, by each shape and by anything, and
        where in the patch the cover lies (x, y). Without these two, relations between objects that
        share rows or columns of patches could not be told. The noise is a sum of four uniform
        integers: nearly normal, and the same on every machine.
    """
    colour, shape = attributes
    kinds = np.concatenate(
        [colour[..., None] == np.arange(len(COLOURS)), shape[..., None] == np.arange(len(SHAPES))],
        -1,
    ).astype(np.float32)
    symbols = np.swapaxes(covered[..., 0], 1, 2) @ kinds  # exact: multiples of 1/64
    clean = np.concatenate([symbols, covered.sum(1)], -1)
    per_scene = clean[0].size
    places = scenes[:, None] * per_scene + np.arange(per_scene)
    word = stream.at(places)
    # Four parts of 16 bits: added two and two in the halves of a word, then these.
    halves = np.uint64(0x0000FFFF0000FFFF)
    sums = (word & halves) + ((word >> np.uint64(16)) & halves)
    total = (sums + (sums >> np.uint64(32))) & np.uint64(0xFFFFFFFF)
    centred = total.astype(np.int64) - 2 * 0xFFFF
    # The variance of four uniform integers below 2**16 is (2**32 - 1) / 3.
    scale = np.float32(noise * (3 / (2**32 - 1)) ** 0.5)
    return clean + (centred.astype(np.float32) * scale).reshape(clean.shape)
