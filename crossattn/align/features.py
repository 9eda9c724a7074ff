"""Features of pairs: retrieval, the gap between modalities, alignment and uniformity.

Functions of features take NumPy or JAX arrays, under `jit` too, and give back the same kind.
Features are scaled to length 1 by the functions themselves.
"""

from math import comb

import numpy as np

from crossattn.align.arguments import (
    boolean,
    finite_numbers,
    jax_or_numpy,
    not_empty,
    squared_distances,
)
from crossattn.shapes import Array, Bool, Float, Int

__all__ = [
    "feature_alignment",
    "modality_gap",
    "recall_at",
    "recall_chance",
    "recall_chance_of",
    "recall_of",
    "retrieval_ranks",
    "uniformity",
]

Numbers = Array | np.ndarray
# Scores that are compared at once.
BLOCK = 2**22


def recall_at(
    scores: Float[np.ndarray, "I C"], image_of: Int[np.ndarray, " C"], k: int
) -> dict[str, Float[np.ndarray, " _"]]:
    """Recall at K of both directions, image by image and caption by caption (Karpathy's protocol).

    An image is found by its best caption: 1 where fewer than K wrong captions score as high. A tie
    with a wrong one counts as lost, so that a scorer that always says the same gets 0. The level of
    chance is `recall_chance`.

    Args:
      scores: scores[i, c] of image i with caption c; larger is nearer.
      image_of: the image of each caption; each image has one or more.
      k: how many may be looked at.

    Returns:
      0 or 1: "image_to_text" of each image (I,), "text_to_image" of each caption (C,).

    Raises:
      ValueError: other shapes, scores that are not finite, an image without a caption, K < 1.

    Example:
      >>> found = recall_at(np.array([[0.9, 0.2], [0.3, 0.1]]), np.array([0, 1]), 1)
      >>> {direction: hits.tolist() for direction, hits in found.items()}
      {'image_to_text': [1.0, 0.0], 'text_to_image': [1.0, 0.0]}
    """
    scores = not_empty("scores", finite_numbers("scores", scores), "I C")
    return recall_of(scores, _pairs(image_of, *scores.shape), k)


def recall_of(
    scores: Float[np.ndarray, "I C"], right: Bool[np.ndarray, "I C"], k: int
) -> dict[str, Float[np.ndarray, " _"]]:
    """`recall_at` where a caption may be true of several images, as those of equal words are.

    Args:
      scores: scores[i, c] of image i with caption c; larger is nearer.
      right: which captions are true of which image; each of some image, and each image has one.
      k: how many may be looked at.

    Raises:
      ValueError: other shapes, scores that are not finite, an image or a caption that is alone,
        K < 1.

    Example:
      >>> same = np.ones((2, 2), bool)  # both captions say the same of both images
      >>> {name: hits.tolist() for name, hits in recall_of(np.eye(2), same, 1).items()}
      {'image_to_text': [1.0, 1.0], 'text_to_image': [1.0, 1.0]}
    """
    _at_least_one(k)
    ranks = retrieval_ranks(scores, right)
    return {direction: (before < k).astype(float) for direction, before in ranks.items()}


def retrieval_ranks(
    scores: Float[np.ndarray, "I C"], right: Bool[np.ndarray, "I C"]
) -> dict[str, Int[np.ndarray, " _"]]:
    """How many wrong candidates score as high as the best right one, for each query.

    This is the rank of the field, from 0, in which ties with wrong candidates are lost. Queries are
    taken in blocks, so that beside 5,000 images and 25,000 captions little else is held.

    Args:
      scores: scores[i, c] of image i with caption c; larger is nearer.
      right: which captions are true of which image.

    Returns:
      "image_to_text" of each image (I,), "text_to_image" of each caption (C,).

    Raises:
      ValueError: as `recall_of`.

    Example:
      >>> ranks = retrieval_ranks(np.array([[0.9, 0.2], [0.3, 0.1]]), np.eye(2, dtype=bool))
      >>> {direction: found.tolist() for direction, found in ranks.items()}
      {'image_to_text': [0, 1], 'text_to_image': [0, 1]}
    """
    scores = not_empty("scores", finite_numbers("scores", scores), "I C")
    right = _right(right, scores.shape)
    ways = {"image_to_text": (scores, right), "text_to_image": (scores.T, right.T)}
    return {direction: _ranks(*arrays) for direction, arrays in ways.items()}


def _ranks(scores, right):
    """`retrieval_ranks` of the queries (Q,) among candidates (Q, N)."""
    block = max(1, BLOCK // scores.shape[1])
    found = []
    for start in range(0, len(scores), block):
        some, own = scores[start : start + block], right[start : start + block]
        best = np.where(own, some, -np.inf).max(axis=1, keepdims=True)
        found.append((~own & (some >= best)).sum(axis=1))
    return np.concatenate(found)


def recall_chance(image_of: Int[np.ndarray, " C"], k: int) -> dict[str, Float[np.ndarray, " _"]]:
    """The recall at K of random scores: that one of an image's captions is among K drawn.

    Raises:
      ValueError: an image without a caption, K < 1.

    Example:
      >>> chance = recall_chance(np.array([0, 0, 1, 1]), 1)
      >>> {direction: levels.tolist() for direction, levels in chance.items()}
      {'image_to_text': [0.5, 0.5], 'text_to_image': [0.5, 0.5, 0.5, 0.5]}
    """
    image_of = np.asarray(image_of)
    images = int(image_of.max()) + 1 if image_of.size else 0
    return recall_chance_of(_pairs(image_of, images, image_of.size), k)


def recall_chance_of(right: Bool[np.ndarray, "I C"], k: int) -> dict[str, Float[np.ndarray, " _"]]:
    """The recall at K of random scores, where a caption may be true of several images.

    Raises:
      ValueError: as `recall_of`.

    Example:
      >>> recall_chance_of(np.ones((2, 2), bool), 1)["text_to_image"].tolist()
      [1.0, 1.0]
    """
    right = _right(right, np.shape(right))
    _at_least_one(k)
    levels = {}
    for direction, axis in (("image_to_text", 1), ("text_to_image", 0)):
        among = right.shape[axis]
        # Whether K of so many, drawn without a look, miss all that are right.
        ways = comb(among, min(k, among))
        missed = {n: comb(among - n, min(k, among)) / ways for n in range(1, among + 1)}
        levels[direction] = 1 - np.array([missed[n] for n in right.sum(axis=axis).tolist()])
    return levels


def modality_gap(
    image: Float[Numbers, "... N D"], text: Float[Numbers, "... E D"]
) -> Float[Numbers, "..."]:
    """Distance of the means of two modalities' features of length 1 (Liang et al. 2022).

    Between 0 and 2; of one distribution it is about sqrt(1/N + 1/E), not 0. Features may be those
    of a layer or a head: leading axes stay.

    Raises:
      ValueError: features of other sizes, without entries, not finite, or of length 0.

    Example:
      >>> float(modality_gap(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]))) ** 2
      2.0000000000000004
    """
    xp, image = _unit("image", image)
    _, text = _unit("text", text)
    if image.shape[:-2] != text.shape[:-2] or image.shape[-1] != text.shape[-1]:
        said = f"image {image.shape}, text {text.shape}"
        raise ValueError(f"{said}: (..., N, D) and (..., E, D) are meant")
    apart = image.mean(axis=-2) - text.mean(axis=-2)
    return xp.asarray(xp.sqrt((apart**2).sum(axis=-1)))


def feature_alignment(
    image: Float[Numbers, "... N D"], text: Float[Numbers, "... N D"], *, power: float = 2.0
) -> Float[Numbers, "..."]:
    """Alignment: the mean distance of pairs, to a power (Wang & Isola 2020). 0 is best.

    Of unrelated features that are spread evenly the squared distance is 2.

    Raises:
      ValueError: features of other shapes, without entries, not finite, or of length 0; a power
        that is not above 0.

    Example:
      >>> float(feature_alignment(np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]])))
      2.0
    """
    if not power > 0:
        raise ValueError(f"power is above 0, got {power}")
    xp, image = _unit("image", image)
    _, text = _unit("text", text)
    if image.shape != text.shape:
        said = f"image {image.shape}, text {text.shape}"
        raise ValueError(f"{said}: one shape (..., N, D) is meant, pair by pair")
    squared = ((image - text) ** 2).sum(axis=-1)
    return xp.asarray(_mean(squared ** (power / 2), -1))


def uniformity(features: Float[Numbers, "... N D"], *, scale: float = 2.0) -> Float[Numbers, "..."]:
    """Uniformity: log of the mean of exp(-scale d^2) over pairs of features (Wang & Isola 2020).

    Between -4 scale and 0, which is that of features that are all the same; lower is more evenly
    spread, and -2 scale about the level of random directions in many dimensions.

    Raises:
      ValueError: fewer than two features, not finite, or of length 0; a scale not above 0.

    Example:
      >>> float(uniformity(np.array([[1.0, 0.0], [-1.0, 0.0]])))
      -8.0
    """
    if not scale > 0:
        raise ValueError(f"scale is above 0, got {scale}")
    xp, features = _unit("features", features)
    N = features.shape[-2]
    if N < 2:
        raise ValueError(f"features {features.shape}: two or more are meant, (..., N, D)")
    # A feature is no pair with itself.
    near = xp.where(xp.eye(N, dtype=bool), -xp.inf, -scale * squared_distances(xp, features))
    nearest = near.max(axis=(-2, -1), keepdims=True)
    mean = _mean(xp.exp(near - nearest), (-2, -1)) * N / (N - 1)
    return xp.asarray(xp.log(mean) + nearest[..., 0, 0])


def _mean(values, axis):
    """The mean, and what rounding had lost of it: float32 adds up many numbers badly."""
    first = values.mean(axis=axis, keepdims=True)
    return (first + (values - first).mean(axis=axis, keepdims=True)).squeeze(axis)


def _unit(name, features):
    """The module to compute with, and features of length 1."""
    xp, features = jax_or_numpy(name, features)
    not_empty(name, features, "... N D")
    length = xp.sqrt((features**2).sum(axis=-1, keepdims=True))
    if xp is np and (bad := int((length == 0).sum())):
        raise ValueError(f"{bad} of {length.size} features of {name} have length 0: no direction")
    return xp, features / length


def _right(right, shape):
    """What is right, a boolean array of a shape in which nothing is alone."""
    right = boolean("right", right)
    if right.shape != shape or right.ndim != 2:
        raise ValueError(f"right {right.shape}: images by captions are meant, {shape}")
    if not (right.any(axis=0).all() and right.any(axis=1).all()):
        raise ValueError("right: each image has a caption, and each caption is true of an image")
    return right


def _at_least_one(k):
    if k < 1:
        raise ValueError(f"k is at least 1, got {k}")


def _pairs(image_of, images, captions):
    """Which image belongs to which caption, (I, C)."""
    image_of = np.asarray(image_of)
    if image_of.shape != (captions,) or not np.issubdtype(image_of.dtype, np.integer):
        said = f"{image_of.dtype}{list(image_of.shape)}"
        raise ValueError(
            f"image_of is the number of each caption's image, ({captions},), got {said}"
        )
    missing = sorted(set(range(images)) - set(image_of.tolist()))
    if missing or not captions or image_of.min() < 0 or image_of.max() >= images:
        span = f"{image_of.min()} to {image_of.max()}" if captions else "none"
        raise ValueError(
            f"image_of has all of 0 to {images - 1}, and no other: got {span}, "
            f"{len(missing)} images without a caption"
        )
    return np.arange(images)[:, None] == image_of
