"""What a report shows of single scenes: drawn once from a fixed seed, never picked."""

import numpy as np

from crossattn.data.examples import Examples
from crossattn.train.evaluate import Evaluator
from crossattn.train.source import Dataset

SEED = 0
WORDS_SHOWN = 4


def exhibit_rows(examples: Examples) -> np.ndarray:
    """One row of every kind of text that has a word to show, at random from a fixed seed."""
    random = np.random.default_rng(SEED)
    pointing = exhibit_words(examples).any(axis=1)
    chosen = []
    for kind in np.unique(examples.kind):
        candidates = np.flatnonzero((examples.kind == kind) & pointing)
        if len(candidates):
            chosen.append(random.choice(candidates))
    return np.array(chosen, int)


def exhibit_words(examples: Examples) -> np.ndarray:
    """Words (E, T) whose attention is worth a picture: names and answers that have a region.

    Where none has one, because the data know none, answers; where nothing is asked, all words of
    captions. The first token is left out: no position predicts it and it is no word.
    """
    answers = np.arange(examples.tokens.shape[1]) == examples.answer[:, None]
    named = (examples.naming() | answers) & examples.grounded.any(axis=-1)
    for found in (named, answers, examples.target):
        words = np.array(found)
        words[:, 0] = False
        if words.any():
            break
    return words


def exhibit_attention(
    evaluator: Evaluator, params: object, source: Dataset, layer: int
) -> np.ndarray:
    """Attention (G, T-1, P) of the shown rows in one layer, mean over heads."""
    examples = source.splits[source.main]
    look = evaluator.predict(params, examples.rows(exhibit_rows(examples))).look
    if look is None:
        raise ValueError("this variant does not attend to patches")
    return look.attention[layer]


def example_rows(examples: Examples, count: int) -> np.ndarray:
    """So many rows, all kinds of text in turn, at random from a fixed seed.

    The first row of each kind is one with a known region, and the first of all is, where the data
    have such texts.
    """
    random = np.random.default_rng(SEED)
    known = np.asarray(examples.grounded.any(axis=(1, 2)))
    turn = np.empty(len(examples), int)
    for kind in np.unique(examples.kind):
        own = random.permutation(np.flatnonzero(examples.kind == kind))
        turn[_first(own, known)] = np.arange(len(own))
    return _first(np.lexsort((examples.kind, turn)), known)[:count]


def _first(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The same rows, the first known one moved to their front."""
    at = int(np.argmax(known[rows]))
    return np.r_[rows[at], np.delete(rows, at)]
