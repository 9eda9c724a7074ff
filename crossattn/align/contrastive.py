"""Losses that compare pictures with texts: contrastive, and matching with hard negatives.

Functions of JAX arrays, under `jit` and over devices too: rows may lie over a mesh, and a loss is
that of all rows of all devices. Features have length 1, so that their products are cosines.
"""

import jax
import jax.numpy as jnp

from crossattn.ops.reference import precision
from crossattn.shapes import Array, Bool, Float, Int

__all__ = [
    "contrastive_loss",
    "equal_captions",
    "hard_negatives",
    "matching_loss",
    "retrieval_accuracy",
]


def equal_captions(
    tokens: Int[Array, "B T"], counted: Bool[Array, " B"], images: int
) -> Bool[Array, "I B"]:
    """Which texts are true of which image: its own ones, and those of the same words.

    A scene may be described as another one is: two captions with the same words are no negatives.

    Args:
      tokens: the words, the texts of one image being neighbours; B is a multiple of I.
      counted: texts that are captions; the others are true of no image.
      images: I.

    Example:
      >>> tokens = jnp.array([[5, 6], [7, 8], [5, 6]])
      >>> equal_captions(tokens, jnp.ones(3, bool), 3).astype(int).tolist()
      [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    """
    equal = jnp.all(tokens[:, None] == tokens[None], axis=-1)
    equal = equal & counted[:, None] & counted[None]
    return jnp.any(equal.reshape(images, -1, equal.shape[1]), axis=1)


def contrastive_loss(
    image: Float[Array, "I D"],
    text: Float[Array, "B D"],
    scale: Float[Array, ""] | float,
    positives: Bool[Array, "I B"] | None = None,
) -> Float[Array, ""]:
    """Cross-entropy of finding the text of an image, and the image of a text (InfoNCE).

    The mean of both directions (CLIP: Radford et al. 2021). Of an image with several true texts the
    target is spread evenly over them, and the other way round (UniCL: Yang et al. 2022). With
    nothing but pairs this is CLIP's loss; log(B) is that of features that are all the same.

    Args:
      image: features of length 1.
      text: the same of texts.
      scale: by which cosines are multiplied: one over the temperature.
      positives: which texts are true of which image; None: text n of image n. A text of no image
        is left out, so are the images of no text where they are to find one.

    Raises:
      ValueError: shapes that do not belong together.

    Example:
      >>> import math
      >>> pairs = jnp.eye(3)
      >>> round(float(contrastive_loss(pairs, pairs, 0.0)), 4), round(math.log(3), 4)
      (1.0986, 1.0986)
      >>> float(contrastive_loss(pairs, pairs, 100.0))
      0.0
    """
    scores, positives = _compared(image, text, positives)
    scores = scores * scale
    # Of a batch without captions nothing is masked: there would be nothing but -inf.
    out = ~positives.any(axis=0) & positives.any()
    to_text = jnp.where(out[None], -jnp.inf, scores)
    return (_spread(to_text, positives, axis=1) + _spread(scores, positives, axis=0)) / 2


def retrieval_accuracy(
    image: Float[Array, "I D"],
    text: Float[Array, "B D"],
    positives: Bool[Array, "I B"] | None = None,
) -> Float[Array, ""]:
    """How many texts are nearest to an image that they are true of.

    Example:
      >>> float(retrieval_accuracy(jnp.eye(2), jnp.eye(2)))
      1.0
    """
    scores, positives = _compared(image, text, positives)
    hit = jnp.take_along_axis(positives, jnp.argmax(scores, axis=0)[None], axis=0)[0]
    return _mean(hit.astype(scores.dtype), positives.any(axis=0))


def hard_negatives(
    key: Array, scores: Float[Array, "N M"], positives: Bool[Array, "N M"]
) -> tuple[Int[Array, " N"], Bool[Array, " N"]]:
    """One wrong candidate of each row, drawn in proportion to exp(score) (ALBEF: Li et al. 2021).

    Args:
      key: of the draw.
      scores: of N queries with M candidates, scaled as in `contrastive_loss`.
      positives: candidates that are right, and all others that are not to be drawn.

    Returns:
      The candidates, and whether there is one: where all are right it is any of them.

    Example:
      >>> right = jnp.array([[True, False], [True, True]])
      >>> drawn, there = hard_negatives(jax.random.key(0), jnp.zeros((2, 2)), right)
      >>> int(drawn[0]), there.tolist()
      (1, [True, False])
    """
    wrong = jnp.where(positives, -jnp.inf, jax.lax.stop_gradient(scores))
    return jax.random.categorical(key, wrong, axis=1), ~positives.all(axis=1)


def matching_loss(
    logits: Float[Array, " N"], match: Bool[Array, " N"], counted: Bool[Array, " N"] | None = None
) -> Float[Array, ""]:
    """Binary cross-entropy of whether picture and text belong together, a mean over what counts.

    Example:
      >>> match = jnp.array([True, False])
      >>> round(float(matching_loss(jnp.zeros(2), match)), 4)
      0.6931
    """
    if logits.ndim != 1 or logits.shape != match.shape:
        raise ValueError(f"logits {logits.shape}, match {match.shape}: one shape (N,) is meant")
    losses = jax.nn.softplus(jnp.where(match, -logits, logits))
    return _mean(losses, jnp.ones_like(match) if counted is None else counted)


def _compared(image, text, positives):
    """Cosines (I, B) in float32 or wider, and what is right."""
    if image.ndim != 2 or text.ndim != 2 or image.shape[1] != text.shape[1]:
        raise ValueError(f"image {image.shape}, text {text.shape}: (I, D) and (B, D) are meant")
    pairs = image.shape[0], text.shape[0]
    if positives is None:
        if pairs[0] != pairs[1]:
            raise ValueError(f"{pairs[0]} images, {pairs[1]} texts: give positives")
        positives = jnp.eye(pairs[0], dtype=bool)
    if positives.shape != pairs or positives.dtype != bool:
        said = f"{positives.dtype}{list(positives.shape)}"
        raise ValueError(f"positives are bool{list(pairs)}, images by texts, got {said}")
    wide = precision(image.dtype)
    return image.astype(wide) @ text.astype(wide).T, positives


def _spread(scores, positives, *, axis):
    """Cross-entropy of targets that are spread evenly over what is right, along an axis."""
    count = positives.astype(scores.dtype).sum(axis=axis)
    log = jnp.where(positives, jax.nn.log_softmax(scores, axis=axis), 0)
    return _mean(-log.sum(axis=axis) / jnp.maximum(count, 1.0), count > 0)


def _mean(values, counted):
    """The mean of what counts, 0 of nothing."""
    counted = counted.astype(values.dtype)
    return (values * counted).sum() / jnp.maximum(counted.sum(), 1.0)
