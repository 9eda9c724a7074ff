"""One example of each part of a data set, to be looked at: drawn by a fixed seed, never picked."""

import dataclasses
from collections.abc import Callable
from typing import SupportsIndex

import numpy as np

from crossattn.data.examples import Examples

__all__ = ["SEED", "PartSample", "draw_sample"]

SEED = 0
MOST_TEXTS = 2
# Marks of where a text begins and ends are no words of it.
MARKS = ("<pad>", "<bos>", "<eos>")


@dataclasses.dataclass(frozen=True, eq=False)
class PartSample:
    """A picture and what is asked or said about it.

    Attributes:
        part: "train" or the name of an evaluation split.
        pixels: (h, w, 3) uint8.
        region: (h, w) bool, where the answer to the first text is, or what the words of it are
            about where nothing is asked; empty where it is not known.
        texts: what is given of each text, and what a model has to predict of it.
    """

    part: str
    pixels: np.ndarray
    region: np.ndarray
    texts: tuple[tuple[str, str], ...]


def draw_sample(
    part: str,
    examples: Examples,
    pictures: Callable[[np.ndarray], np.ndarray],
    masks: Callable[[np.ndarray], np.ndarray],
) -> PartSample:
    """One picture of some examples with its first texts.

    Args:
        part: its name.
        examples: with at least one text.
        pictures: image numbers (n,) to pixels (n, h, w, 3) in uint8.
        masks: image numbers (n,) to regions (n, h, w): 0 ground, o + 1 for region o.

    Example:
        >>> from crossattn.data import scenes
        >>> data = scenes.examples("iid", 100, seed=0)
        >>> blank = lambda images: np.zeros((len(images), 64, 64), np.uint8)
        >>> sample = draw_sample("iid", data, lambda n: blank(n)[..., None].repeat(3, -1), blank)
        >>> sample.texts[0]
        ('how many red things are there ?', 'three')
    """
    image = np.random.default_rng(SEED).choice(np.unique(examples.image))
    rows = np.flatnonzero(examples.image == image)[:MOST_TEXTS]
    shown = np.array([image])
    return PartSample(
        part,
        pictures(shown)[0],
        np.isin(masks(shown)[0], _regions(examples, rows[0]) + 1),
        tuple(_spelt(examples, row) for row in rows),
    )


def _regions(examples: Examples, row: SupportsIndex) -> np.ndarray:
    """Numbers of the regions of the answer, or of all words where a text has none."""
    answer = examples.answer[row]
    words = examples.grounded[row, answer] if answer else examples.grounded[row].any(axis=0)
    return np.flatnonzero(words)


def _spelt(examples: Examples, row: SupportsIndex) -> tuple[str, str]:
    tokens, target = examples.tokens[row], examples.target[row]
    words = [examples.vocabulary[token] for token in tokens]
    said = [
        [w for w, ahead in zip(words, target, strict=True) if ahead == side and w not in MARKS]
        for side in (False, True)
    ]
    given, wanted = map(" ".join, said)
    return given, wanted
