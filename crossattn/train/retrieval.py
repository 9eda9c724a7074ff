"""What measures of retrieval read of the captions of one split."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from crossattn.align.inputs import FeaturePairs, RetrievalFolds, RetrievalScores, SwapPairs
from crossattn.data.examples import Examples
from crossattn.models.joint_space import JointFeatures
from crossattn.train.texts import CONTRASTS, captions

__all__ = ["SWAP_PLACES", "compared", "recall", "retrieval_inputs", "true_features"]

# Images of a fold: galleries of several whole folds are searched by folds too, as COCO's 5,000 are.
FOLD = 1_000
# Captions whose features are compared with all others of their kind, at most.
PAIRS = 2_000
# Of the features that stand for the truth: enough that wordings are apart.
TRUE_WIDTH = 64
# Swap pairs by how they are scored; "swap" is by the likelihood of captions.
SWAP_PLACES = ("swap_similarity", "swap_matching")


def compared(split: str, examples: Examples) -> np.ndarray:
    """Rows of a split whose texts are compared with images: its captions, and all swap pairs."""
    if split in ("validation", *CONTRASTS):
        return np.zeros(0, int)
    return np.arange(len(examples)) if split == "swap" else captions(examples)


def retrieval_inputs(
    split: str, texts: Examples, found: JointFeatures
) -> Iterator[tuple[str, Any]]:
    """What measures of retrieval read, and the name of the split in theirs.

    Args:
      split: its name.
      texts: the rows of `compared`.
      found: features of each and of its image.
    """
    if split == "swap":
        # Rows of a pair: caption 0 with image 0 and 1, caption 1 with image 0 and 1.
        yield SWAP_PLACES[0], SwapPairs((found.image * found.text).sum(axis=1).reshape(-1, 2, 2))
        if found.match is not None:
            yield SWAP_PLACES[1], SwapPairs(found.match.reshape(-1, 2, 2))
        return
    yield split, _scores(texts, found)
    images, image_of = np.unique(texts.image, return_inverse=True)
    if len(images) > FOLD and len(images) % FOLD == 0:
        fold = image_of // FOLD
        parts = (np.flatnonzero(fold == number) for number in range(len(images) // FOLD))
        yield split, RetrievalFolds(tuple(_scores(*_some(texts, found, own)) for own in parts))
    yield split, FeaturePairs(found.image[:PAIRS], found.text[:PAIRS])


def recall(texts: Examples, found: JointFeatures) -> float:
    """R@1, the mean of both directions, of captions and their features."""
    return float(np.mean([(before < 1).mean() for before in _scores(texts, found).ranks.values()]))


def true_features(texts: Examples) -> JointFeatures:
    """Features of one direction for each wording: what is measured of these, every model has."""
    wording = _wording(texts)
    own = np.random.default_rng(0).normal(size=(wording.max() + 1, TRUE_WIDTH))[wording]
    own = np.float32(own / np.linalg.norm(own, axis=1, keepdims=True))
    return JointFeatures(own, own, None)


def _scores(texts: Examples, found: JointFeatures) -> RetrievalScores:
    """All captions with all images; captions of equal words are true of the same images."""
    images, first, image_of = np.unique(texts.image, return_index=True, return_inverse=True)
    wording = _wording(texts)
    true_of = np.zeros((len(images), wording.max() + 1), bool)
    true_of[image_of, wording] = True
    return RetrievalScores(found.image[first] @ found.text.T, true_of[:, wording])


def _some(texts: Examples, found: JointFeatures, rows: np.ndarray) -> tuple[Any, Any]:
    return texts.rows(rows), found._replace(image=found.image[rows], text=found.text[rows])


def _wording(texts: Examples) -> np.ndarray:
    """The number (E,) of the wording of each text."""
    return np.unique(texts.tokens, axis=0, return_inverse=True)[1].reshape(-1)
