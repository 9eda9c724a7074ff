"""Words that are predicted beside the images of other examples."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossattn.align.inputs import PERMUTATIONS, PermutedImages
from crossattn.data.examples import Examples
from crossattn.train.hidden_words import grounded_caption_words
from crossattn.train.predictions import Asked, Predictions
from crossattn.train.texts import questions

__all__ = ["OtherImages", "other_images"]


class OtherImages(NamedTuple):
    """Words of rows of a split that are predicted beside permuted images.

    Attributes:
      permuted: those E rows, with the images of each permutation.
      rows: (E,) their places in the split.
      words: (E,) place of the word of each.
    """

    permuted: tuple[Examples, ...]
    rows: np.ndarray
    words: np.ndarray

    def asked(self) -> list[Asked]:
        """What is to be predicted."""
        return [Asked(examples) for examples in self.permuted]

    def read(self, own: Predictions, permuted: Sequence[Predictions]) -> PermutedImages:
        """Which of the words are right: with their own images, as the whole split was, and not."""
        every = np.arange(len(self.words))
        true = self.permuted[0].tokens[every, self.words]
        right = own.words[self.rows, self.words] == true
        others = [said.words[every, self.words] == true for said in permuted]
        return PermutedImages(right.astype(float), np.stack(others, axis=1).astype(float))


def other_images(examples: Examples) -> OtherImages | None:
    """Of all answers, or where there are none of words of captions; None if they have one image."""
    rows = questions(examples)
    words = examples.answer[rows]
    if not len(rows):
        rows, words, _ = grounded_caption_words(examples)
    own = examples.rows(rows)
    if len(np.unique(own.image)) < 2:
        return None
    # The same for every variant and seed, so that differences between them are paired.
    random = np.random.default_rng(0)
    images = [random.permutation(own.image) for _ in range(PERMUTATIONS)]
    permuted = tuple(dataclasses.replace(own, image=image) for image in images)
    return OtherImages(permuted, rows, words)
