"""What a model makes of a region whose content is another one: interchange interventions on images.

A region that is hidden is one that no image has; one with the content of another object, or of
another image, is an image as the model knows them (Geiger et al. 2021, "Causal abstractions of
neural networks"). Patches are arrays (N, P, F); a picture (N, h, w, C) of cells of side c becomes
them by `x.reshape(N, h // c, c, w // c, c, C).swapaxes(2, 3).reshape(N, P, c * c * C)`.
"""

from collections.abc import Callable

import numpy as np

from crossattn.align.arguments import boolean, not_empty
from crossattn.align.removal import knockout_effect
from crossattn.shapes import Bool, Float

__all__ = ["exchange_regions", "region_swap_effect"]

ImageScore = Callable[[np.ndarray], np.ndarray]


def exchange_regions(
    patches: Float[np.ndarray, "N P F"],
    region: Bool[np.ndarray, "N P"],
    other: Bool[np.ndarray, "N P"],
) -> Float[np.ndarray, "N P F"]:
    """Images in which two regions have changed places, patch by patch in their order.

    Of regions of different sizes, the patches of the larger one that have no partner stay.

    Args:
      patches: of N images.
      region: patches of one object.
      other: patches of another one, none of them in `region`.

    Raises:
      ValueError: regions that are not boolean, of another shape, empty or overlapping.

    Example:
      >>> patches = np.array([[[1.0], [2.0], [3.0]]])
      >>> one, other = np.array([[True, False, False]]), np.array([[False, False, True]])
      >>> exchange_regions(patches, one, other)[0, :, 0].tolist()
      [3.0, 2.0, 1.0]
    """
    patches = not_empty("patches", np.asarray(patches), "N P F")
    both = _region("region", region, patches), _region("other", other, patches)
    if overlap := int((both[0] & both[1]).any(axis=1).sum()):
        raise ValueError(f"region and other overlap in {overlap} of {len(patches)} images")
    order = np.tile(np.arange(patches.shape[1]), (len(patches), 1))
    for row, here, there in zip(order, *both, strict=True):
        pairs = min(here.sum(), there.sum())
        one, two = np.flatnonzero(here)[:pairs], np.flatnonzero(there)[:pairs]
        row[one], row[two] = two, one
    return np.take_along_axis(patches, order[..., None], axis=1)


def region_swap_effect(
    score: ImageScore,
    patches: Float[np.ndarray, "N P F"],
    donors: Float[np.ndarray, "N P F"],
    region: Bool[np.ndarray, "N P"],
    *,
    seed: int = 0,
) -> dict[str, Float[np.ndarray, " N"]]:
    """Scores while positions have a donor's content: none, the region, as many others, the rest.

    A model uses the region where "truth" is far from "intact" and "random" is not: that one is the
    level of chance. As `knockout_effect`, without a hole in the image.

    Args:
      score: of N images, (N,): the log-probability of the answer.
      patches: of N images.
      donors: images whose content is put in: others of the data, or `exchange_regions`.
      region: positions that are said to matter, at most half of them.
      seed: of the random others.

    Raises:
      ValueError: arrays of other shapes, a region that is not boolean, empty or over half the
        positions, or scores not (N,) or not finite.

    Example:
      >>> patches, donors = np.ones((1, 3, 1)), np.zeros((1, 3, 1))
      >>> region = np.array([[True, False, False]])
      >>> effect = region_swap_effect(lambda x: x[:, 0, 0], patches, donors, region)
      >>> {name: values.tolist() for name, values in effect.items()}
      {'intact': [1.0], 'truth': [0.0], 'random': [1.0], 'rest': [1.0]}
    """
    patches = not_empty("patches", np.asarray(patches), "N P F")
    donors, region = np.asarray(donors), _region("region", region, patches)
    if donors.shape != patches.shape:
        raise ValueError(f"donors {donors.shape}: images like patches {patches.shape} are meant")
    mixed = lambda own: np.where(own[..., None], patches, donors)
    return knockout_effect(lambda own: score(mixed(own)), region, seed=seed)


def _region(name: str, region: np.ndarray, patches: np.ndarray) -> np.ndarray:
    region = boolean(name, region)
    if region.shape != patches.shape[:2]:
        raise ValueError(f"{name} {region.shape}: booleans {patches.shape[:2]} are meant")
    if empty := int((~region.any(axis=1)).sum()):
        raise ValueError(f"{name} is empty in {empty} of {len(region)} images: leave these out")
    return region
