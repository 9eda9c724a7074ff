"""Which words of the examples are judged, and what is right of them."""

from collections.abc import Mapping

import numpy as np

from crossattn.align import perplexity
from crossattn.data.examples import Examples
from crossattn.train.predictions import Predictions

# Splits of a true caption and a wrong one for each picture.
CONTRASTS = ("sugarcrepe", "valse")


def questions(examples: Examples) -> np.ndarray:
    """Rows that have an answer."""
    return np.flatnonzero(examples.answer > 0)


def captions(examples: Examples) -> np.ndarray:
    """Rows that have words to predict and are no questions."""
    return np.flatnonzero((examples.answer == 0) & examples.target.any(axis=1))


def right_answers(examples: Examples, said: Predictions, rows: np.ndarray) -> np.ndarray:
    """1 where the answer of a row is right."""
    place = examples.answer[rows]
    return (said.words[rows, place] == examples.tokens[rows, place]).astype(float)


def positions(examples: Examples) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Where words meet attention: (rows, positions that attend, words they are about).

    "answer": the position that predicts an answer that names what is in the picture; "consumed": a
    position whose input is such a word; "predicted": one that predicts such a word of a caption.
    """
    strong = examples.naming() & examples.grounded.any(axis=-1)
    rows, words = np.nonzero(strong)
    last = examples.tokens.shape[1] - 1
    is_answer = (examples.answer[rows] == words) & (words > 0)
    is_caption = examples.target[rows, words] & ~is_answer
    consumed = (words < last) & ~is_answer
    return {
        "answer": (rows[is_answer], words[is_answer] - 1, words[is_answer]),
        "consumed": (rows[consumed], words[consumed], words[consumed]),
        "predicted": (rows[is_caption], words[is_caption] - 1, words[is_caption]),
    }


def slots_of(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Words of captions (n, T) that name what is in the picture, as colours and shapes."""
    return examples.target[rows] & examples.naming()[rows]


def score(examples: Examples, said: Predictions) -> tuple[str, float]:
    """By what a model is chosen on validation data, and its value.

    The accuracy of answers; where nothing is asked, the perplexity of captions.
    """
    if len(rows := questions(examples)):
        return "accuracy", float(right_answers(examples, said, rows).mean())
    rows = captions(examples)
    words = examples.target[rows].sum(axis=1)
    return "perplexity", perplexity(said.log_likelihood[rows], words)


def best_rate(scores: Mapping[float, float], by: str) -> float:
    """The learning rate with the best score, of two as good the lower one.

    Args:
      scores: by learning rate.
      by: "accuracy", "recall", or "perplexity", of which less is better.

    Example:
      >>> best_rate({1e-3: 4.0, 1e-2: 3.0, 1e-1: 3.0}, "perplexity")
      0.01
      >>> best_rate({1e-3: 0.4, 1e-2: 0.3}, "accuracy")
      0.001
    """
    sign = -1 if by == "perplexity" else 1
    return max(scores, key=lambda rate: (sign * scores[rate], -rate))
