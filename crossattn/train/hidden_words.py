"""Words that are predicted with regions of the picture hidden from attention."""

import itertools
from typing import NamedTuple

import numpy as np

from crossattn.align import commonest_word_accuracy, knockouts
from crossattn.align.inputs import Knockouts
from crossattn.data.examples import Examples
from crossattn.train.predictions import Asked, Predictions
from crossattn.train.texts import positions

__all__ = ["HiddenWords", "grounded_caption_words", "hidden_words"]

# Words of captions of which the region is hidden, where there are no answers.
CAPTION_WORDS_HIDDEN = 512


class HiddenWords(NamedTuple):
    """Words of E rows that are predicted without their region, and without as much elsewhere.

    Attributes:
      examples: the rows.
      rows: (E,) their places in the split.
      words: (E,) place of the word of each.
      levels: (E,) chance of predicting it.
      visible: what stays visible, by condition.
    """

    examples: Examples
    rows: np.ndarray
    words: np.ndarray
    levels: np.ndarray
    visible: dict[str, np.ndarray]

    def asked(self) -> list[Asked]:
        """What is to be predicted, by condition."""
        return [Asked(self.examples, seen) for seen in self.visible.values()]

    def read(self, said: Predictions) -> Knockouts:
        """Which of the words are right."""
        every = np.arange(len(self.words))
        right = said.words[every, self.words] == self.examples.tokens[every, self.words]
        return Knockouts(right.astype(float), self.levels)


def hidden_words(examples: Examples, layers: int = 0) -> HiddenWords | None:
    """Colour and shape words, or None where there are none; the first `layers` also one by one."""
    rows, words, levels = _hidden(examples)
    truth = examples.regions(rows)[np.arange(len(rows)), words] > 0
    # Outside of a region over half the picture there is no random region of equal size.
    there = np.ones_like(truth) if examples.shown is None else examples.shown[examples.image[rows]]
    fair = truth.any(axis=1) & (2 * truth.sum(axis=1) <= there.sum(axis=1))
    if not fair.any():
        return None
    truth = truth[fair]
    hidden = knockouts(truth, np.random.default_rng(0), there[fair])
    visible = {"intact": np.ones_like(truth), **hidden}
    for layer, name in itertools.product(range(layers), ("truth", "random")):
        own = np.ones((layers, *truth.shape), bool)
        own[layer] = visible[name]
        visible[f"{name}/layer{layer}"] = own
    rows = rows[fair]
    return HiddenWords(examples.rows(rows), rows, words[fair], levels[fair], visible)


def _hidden(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, places and chance levels of the words whose region is hidden: answers if there are any.

    Else words of captions, each predicted after the true words before it; chance is what the
    commonest colour, or shape, gets right.
    """
    found = positions(examples)
    rows, _, words = found["answer"]
    if len(rows):
        kinds = [examples.kinds[kind] for kind in examples.kind[rows]]
        return rows, words, np.array([examples.chance[kind] for kind in kinds])
    return grounded_caption_words(examples)


def grounded_caption_words(examples: Examples) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, places and chance levels of words of captions, at most `CAPTION_WORDS_HIDDEN`."""
    rows, _, words = positions(examples)["predicted"]
    said, group = examples.tokens[rows, words], np.asarray(examples.group)[rows, words]
    levels = commonest_word_accuracy(said.astype(int), group.astype(int))
    count = min(len(rows), CAPTION_WORDS_HIDDEN)
    some = np.sort(np.random.default_rng(0).choice(len(rows), count, replace=False))
    return rows[some], words[some], levels[some]
