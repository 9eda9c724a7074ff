"""What a model says of words whose region is hidden from it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crossattn.data.examples import Examples
from crossattn.lab.observer import Observer
from crossattn.train.exhibits import WORDS_SHOWN
from crossattn.train.hidden_words import hidden_words
from crossattn.train.texts import captions, questions

# What is hidden, by condition.
CONDITIONS = {
    "intact": "nothing",
    "truth": "the true region",
    "random": "a random region of the same size",
}


class HiddenRegion(NamedTuple):
    """A word that is to be predicted while a region is hidden.

    Attributes:
      row: of the split.
      word: its place in the text.
      condition: of `CONDITIONS`.
      visible: patches that are not hidden, (P,) bool.
    """

    row: int
    word: int
    condition: str
    visible: np.ndarray


def hidden_regions(examples: Examples, rows: np.ndarray) -> Iterator[HiddenRegion]:
    """Words of some rows of a split, under each condition.

    Of questions the answer, hidden as evaluation hides it; of captions the first words that name
    what is in the picture. An answer that has no region is predicted intact alone.
    """
    asked = rows[np.isin(rows, questions(examples))]
    hidden = _hidden(examples, np.arange(len(examples))) if len(asked) else {}
    for row in map(int, asked):
        everything = {"intact": np.ones(examples.coverage.shape[-1], bool)}
        answer = int(examples.answer[row])
        yield from _under_conditions(row, answer, hidden.get((row, answer), everything))
    for row in rows[np.isin(rows, captions(examples))]:
        for (_, word), visible in list(_hidden(examples, row[None]).items())[:WORDS_SHOWN]:
            yield from _under_conditions(int(row), word, visible)


def _hidden(examples: Examples, rows: np.ndarray) -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """What stays visible by row and word, and by condition."""
    found = hidden_words(examples.rows(rows))
    if found is None:
        return {}
    return {
        (int(rows[row]), int(word)): {name: kept[at] for name, kept in found.visible.items()}
        for at, (row, word) in enumerate(zip(found.rows, found.words, strict=True))
    }


def _under_conditions(
    row: int, word: int, visible: dict[str, np.ndarray]
) -> Iterator[HiddenRegion]:
    for condition in CONDITIONS:
        if condition in visible:
            yield HiddenRegion(row, word, condition, visible[condition])


def predict_hidden(
    observer: Observer, examples: Examples, hidden: list[HiddenRegion]
) -> list[tuple[str, float]]:
    """The word that is predicted in place of each, and its probability."""
    if not hidden:
        return []
    chosen = examples.rows(np.array([one.row for one in hidden]))
    said = observer.observe(chosen, np.stack([one.visible for one in hidden]))
    at = np.arange(len(hidden)), np.array([one.word for one in hidden])
    words = [examples.vocabulary[word] for word in said.words[at]]
    return list(zip(words, said.probability[at].tolist(), strict=True))
