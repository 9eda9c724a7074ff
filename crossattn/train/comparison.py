"""Terms of a loss that compare the images of a batch with its captions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.align.contrastive import (
    contrastive_loss,
    equal_captions,
    hard_negatives,
    matching_loss,
    retrieval_accuracy,
)
from crossattn.data.batches import Batch
from crossattn.models.joint_space import JointFeatures
from crossattn.shapes import Array, Bool, Int
from crossattn.train.losses import Losses

__all__ = ["captioned", "comparing_terms", "last_words"]


def last_words(batch: Batch) -> Int[Array, " B"]:
    """The place of the last word of each caption: the one before its end is predicted."""
    ends = batch.target.shape[1] - 1 - jnp.argmax(batch.target[:, ::-1], axis=1)
    return jnp.maximum(ends - 1, 0)


def captioned(batch: Batch) -> Bool[Array, " B"]:
    """Which texts are captions: of all others, the answers to questions, one word is predicted."""
    return batch.target.sum(axis=1) > 1


def comparing_terms(
    terms: Losses,
    features: JointFeatures,
    batch: Batch,
    match: Callable[[Batch], Array],
    key: Array | None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The contrastive term and the one of matching, where they have a weight, and metrics.

    A batch is that of all devices: every image is compared with every caption. The images of a
    batch are different ones, and questions are left out.

    Args:
      terms: the weights.
      features: of the batch.
      batch: images and texts.
      match: the logits of whether each text is true of its image, of another batch.
      key: of the draw of negatives; None draws the same ones each time.
    """
    captions = captioned(batch)
    right = equal_captions(batch.tokens, captions, batch.images.shape[0])
    found = {}
    if terms.contrastive:
        both = features.image, features.text
        found["contrastive"] = contrastive_loss(*both, features.scale, right)
    if terms.matching:
        key = jax.random.key(0) if key is None else key
        found["matching"] = _matching(features, batch, captions, right, match, key)
    return found, {"retrieved": retrieval_accuracy(features.image, features.text, right)}


def _matching(
    features: JointFeatures,
    batch: Batch,
    captions: Bool[Array, " B"],
    right: Bool[Array, "I B"],
    match: Callable[[Batch], Array],
    key: Array,
) -> Array:
    """Each caption with its image and with a wrong one, each image with a wrong caption."""
    scores = features.scale * features.image @ features.text.T
    of_text, of_image = jax.random.split(key)
    image, some_image = hard_negatives(of_text, scores.T, right.T)
    # No question is drawn as a wrong caption.
    text, some_text = hard_negatives(of_image, scores, right | ~captions[None])
    wrong = match(_paired(batch, image, text))
    logits = jnp.concatenate([features.match, wrong])
    true = jnp.arange(logits.shape[0]) < captions.shape[0]
    return matching_loss(
        logits, true, jnp.concatenate([captions, captions & some_image, some_text])
    )


def _paired(batch: Batch, image: Any, text: Any) -> Batch:
    """Every text with the image that is named for it, then every image with such a text."""
    each = lambda whole, chosen: jnp.concatenate([whole, whole[chosen]])
    of_images = lambda whole: jnp.concatenate([whole[image], whole])
    return Batch(
        tokens=each(batch.tokens, text),
        target=each(batch.target, text),
        grounded=each(batch.grounded, text),
        images=of_images(batch.images),
        coverage=of_images(batch.coverage),
        boxes=None if batch.boxes is None else of_images(batch.boxes),
        shown=None if batch.shown is None else of_images(batch.shown),
    )
