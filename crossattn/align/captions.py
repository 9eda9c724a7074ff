"""Captions against the canonical one: how likely it is, and how much of it is written."""

import numpy as np

from crossattn.align.arguments import boolean, of_one_shape
from crossattn.align.inputs import CaptionLikelihoods, WrittenCaptions
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Bool, Float, Int


def slot_accuracy(
    predicted: Int[np.ndarray, "E T"],
    words: Int[np.ndarray, "E T"],
    slots: Bool[np.ndarray, "E T"],
) -> Float[np.ndarray, " E"]:
    """Share of each caption's slots (colour and shape words) that hold the right word.

    Raises:
      ValueError: arrays of other shapes, slots that are not boolean.

    Example:
      >>> words = np.array([[5, 6, 7]])
      >>> slot_accuracy(np.array([[5, 6, 8]]), words, np.array([[False, True, True]])).tolist()
      [0.5]
    """
    predicted, words, slots = of_one_shape("E T", predicted=predicted, words=words, slots=slots)
    slots = boolean("slots", slots)
    right = (predicted == words) & slots
    return right.sum(axis=1) / np.maximum(slots.sum(axis=1), 1)


def exact_match(
    predicted: Int[np.ndarray, "E T"],
    words: Int[np.ndarray, "E T"],
    target: Bool[np.ndarray, "E T"],
) -> Float[np.ndarray, " E"]:
    """1 where every word of the caption is right.

    Raises:
      ValueError: arrays of other shapes, a target that is not boolean.

    Example:
      >>> words = np.array([[5, 6, 7]])
      >>> exact_match(np.array([[0, 6, 7]]), words, np.array([[False, True, True]])).tolist()
      [1.0]
    """
    predicted, words, target = of_one_shape("E T", predicted=predicted, words=words, target=target)
    target = boolean("target", target)
    return np.all((predicted == words) | ~target, axis=1).astype(float)


def perplexity(log_likelihood: Float[np.ndarray, " E"], words: Int[np.ndarray, " E"]) -> float:
    """Perplexity per word of E captions: exp of the mean negative log-likelihood of a word.

    The mean is over the words of all captions together, so that a long one counts more than a short
    one; the end token, which has to be predicted as well, is a word. It is at least 1, and 1 only
    where every word was certain; a uniform guess among V words has V. It ends at e^700, before
    numbers do.

    Args:
      log_likelihood: of all words of each caption, natural logarithm.
      words: how many words each has.

    Example:
      >>> round(perplexity(np.log([0.25, 0.5]), np.array([2, 1])), 6)  # (1 / 8) ^ (-1 / 3)
      2.0
    """
    loss = -np.sum(log_likelihood, dtype=np.float64) / np.sum(words)
    return float(np.exp(np.clip(loss, 0.0, 700.0)))


def word_frequency_perplexity(
    words: Int[np.ndarray, "E T"], target: Bool[np.ndarray, "E T"]
) -> float:
    """Perplexity of knowing how often each word occurs in these captions, and nothing else.

    No predictor that ignores image, place and neighbours does better on them. It is what a model
    has to beat to have learnt anything, not a level that one without the image cannot beat: that is
    what a blind variant measures.

    Example:
      >>> round(word_frequency_perplexity(np.array([[5, 6, 5, 6]]), np.ones((1, 4), bool)), 6)
      2.0
    """
    _, counts = np.unique(words[target], return_counts=True)
    shares = counts / counts.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def commonest_word_accuracy(
    words: Int[np.ndarray, " N"], groups: Int[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """1 where a word is the commonest of its group: what the best constant guess gets right.

    Example:
      >>> commonest_word_accuracy(np.array([5, 5, 6, 7]), np.array([1, 1, 1, 2])).tolist()
      [1.0, 1.0, 0.0, 1.0]
    """
    right = np.zeros(len(words))
    for group in np.unique(groups):
        own = groups == group
        values, counts = np.unique(words[own], return_counts=True)
        right[own] = words[own] == values[counts.argmax()]
    return right


def _slot_accuracy(captions: WrittenCaptions) -> np.ndarray | None:
    has = captions.slots.any(axis=1)
    if not has.any():
        return None
    return slot_accuracy(captions.predicted[has], captions.words[has], captions.slots[has])


register_measure(
    Measure(
        "perplexity",
        "task",
        CaptionLikelihoods,
        lambda told: perplexity(told.log_likelihood, told.target.sum(axis=1)),
        "Perplexity: of the words of all captions, each predicted after the true ones before it.",
        chance=lambda told: word_frequency_perplexity(told.words, told.target),
        chance_meaning="Chance of a perplexity: that of a predictor that knows the frequency of "
        "each word, and nothing else.",
        limits=(1.0, np.inf),
        lower_is_better=True,
    )
)
register_measure(
    Measure(
        "slot_accuracy",
        "task",
        WrittenCaptions,
        _slot_accuracy,
        "Slot accuracy: of captions written word by word, the share of the words naming what is "
        "in the picture that are right.",
        chance=lambda captions: commonest_word_accuracy(
            captions.words[captions.slots].astype(int), captions.groups[captions.slots].astype(int)
        ),
        chance_meaning="Chance of slots: the commonest word of each group of words.",
        headline={"caption": "caption slots"},
    )
)
register_measure(
    Measure(
        "exact",
        "task",
        WrittenCaptions,
        lambda captions: exact_match(captions.predicted, captions.words, captions.target),
        "Exact: captions of which every word is right.",
    )
)
