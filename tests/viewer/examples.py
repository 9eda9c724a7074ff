"""Examples for the page: random attention over pictures with known regions."""

import numpy as np

from crossattn.viewer import Answer, Example

WORDS = ["what", "colour", "is", "the", "ring", "?", "red"]


def weights_of(seed, *shape):
    """Attention of any leading shape; the last axis adds up to 1."""
    return np.random.default_rng(seed).dirichlet(np.full(shape[-1], 0.3), shape[:-1])


def picture(seed, size=48):
    """Bright squares on grey."""
    random = np.random.default_rng(seed)
    image = np.full((size, size, 3), 90, np.uint8)
    for y, x in random.integers(0, size - 12, (4, 2)):
        image[y : y + 12, x : x + 12] = random.integers(0, 256, 3)
    return image


def scene(seed=0, *, layers=4, heads=8, words=WORDS, grid=(6, 6), size=48, **fields):
    """A question about a picture, whose last word and "ring" have a true region."""
    regions = np.zeros((len(words), size, size), bool)
    regions[[4, len(words) - 1], 8:24, 16:36] = True
    covered = np.zeros(grid, bool)
    covered[1:3, 2:5] = True
    answers = (
        Answer("nothing", "red", 0.94),
        Answer("the true region", "blue", 0.31, keys=covered.ravel()),
        Answer("a random region", "red", 0.92, keys=covered[::-1].ravel()),
    )
    weights = weights_of(seed, layers, heads, len(words), grid[0] * grid[1])
    values = {"image": picture(seed, size), "regions": regions, "answers": answers}
    return Example(words, weights, **{"caption": " ".join(words), **values, **fields})
