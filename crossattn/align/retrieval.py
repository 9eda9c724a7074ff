"""Retrieval: captions of images, images of captions, and how the space of both looks."""

import numpy as np
from scipy.special import hyp0f1

from crossattn.align.features import (
    feature_alignment,
    modality_gap,
    recall_chance_of,
    uniformity,
)
from crossattn.align.inputs import FeaturePairs, RetrievalFolds, RetrievalScores
from crossattn.align.measures import Measure, register_measure
from crossattn.align.representation import cka

WAYS = {"image_to_text": "image to text", "text_to_image": "text to image"}


def _register_recall(way: str, k: int) -> None:
    register_measure(
        Measure(
            f"{way}_r{k}",
            "task",
            RetrievalScores,
            lambda found: _hits(found, way, k),
            "R@K: how often one of the K nearest is right, of all captions for each image of the "
            "split, and of all images for each caption; of captions of equal words all are right.",
            chance=lambda found: recall_chance_of(found.right, k)[way],
            chance_meaning="Chance of R@K: scores that are random.",
            column=f"{WAYS[way]} R@{k}",
            words=f"R@{k} from {WAYS[way]}",
        )
    )
    register_measure(
        Measure(
            f"{way}_r{k}_1k",
            "task",
            RetrievalFolds,
            lambda found: np.concatenate([_hits(fold, way, k) for fold in found.folds]),
            "R@K (1k): the mean R@K of parts of 1,000 images, each searched by itself, in the "
            "order of the split.",
            chance=lambda found: np.concatenate(
                [recall_chance_of(fold.right, k)[way] for fold in found.folds]
            ),
            chance_meaning="Chance of R@K (1k): scores that are random.",
            column=f"{WAYS[way]} R@{k} (1k)",
            words=f"R@{k} (1k) from {WAYS[way]}",
        )
    )


def _hits(found: RetrievalScores, way: str, k: int) -> np.ndarray:
    return (found.ranks[way] < k).astype(float)


for _way in WAYS:
    for _k in (1, 5, 10):
        _register_recall(_way, _k)

register_measure(
    Measure(
        "modality_gap",
        "representation",
        FeaturePairs,
        lambda pairs: modality_gap(pairs.image, pairs.text),
        "Modality gap: the distance of the mean image from the mean text, whose features have "
        "length 1.",
        chance=lambda pairs: np.sqrt(2 / len(pairs.image)),
        chance_meaning="Chance of the gap: images and texts that are spread alike and evenly.",
        limits=(0.0, 2.0),
        lower_is_better=True,
    )
)
register_measure(
    Measure(
        "feature_alignment",
        "representation",
        FeaturePairs,
        lambda pairs: feature_alignment(pairs.image, pairs.text),
        "Alignment: the mean squared distance of an image from its caption; 0 is best.",
        chance=lambda pairs: _unpaired(pairs),
        chance_meaning="Chance of alignment: the mean of all images with all captions.",
        column="alignment",
        limits=(0.0, 4.0),
        lower_is_better=True,
    )
)


def _unpaired(pairs: FeaturePairs) -> float:
    """The mean squared distance of vectors of length 1: 2 - 2 times the mean product."""
    image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (pairs.image, pairs.text))
    return float(2 - 2 * image.mean(axis=0) @ text.mean(axis=0))


def _register_uniformity(side: str) -> None:
    register_measure(
        Measure(
            f"uniformity_{side}",
            "representation",
            FeaturePairs,
            lambda pairs: uniformity(getattr(pairs, side)),
            f"Uniformity of {side}s: log of the mean of exp(-2 d^2) over pairs of features at "
            "distance d; lower is more evenly spread, 0 is all the same.",
            # The mean of exp(4 cos) over random directions in D dimensions, times exp(-4).
            chance=lambda pairs: np.log(hyp0f1(pairs.image.shape[1] / 2, 4.0)) - 4,
            chance_meaning="Chance of uniformity: directions that are random.",
            limits=(-8.0, 0.0),
            lower_is_better=True,
        )
    )


for _side in ("image", "text"):
    _register_uniformity(_side)

register_measure(
    Measure(
        "cka",
        "representation",
        FeaturePairs,
        lambda pairs: cka(pairs.image, pairs.text) if len(pairs.image) > 3 else None,
        "CKA: how alike the similarities among images and among their captions are, linear and "
        "unbiased; 1 is the same.",
        chance=0.0,
        chance_meaning="Chance of CKA: features that have nothing to do with each other.",
        column="CKA",
        limits=(-1.0, 1.0),
    )
)
