"""Captions against the canonical one."""

import numpy as np

from crossattn.shapes import Bool, Float, Int


def slot_accuracy(
    predicted: Int[np.ndarray, "E T"],
    words: Int[np.ndarray, "E T"],
    slots: Bool[np.ndarray, "E T"],
) -> Float[np.ndarray, " E"]:
    """Share of each caption's slots (colour and shape words) that hold the right word.

    Example:
      >>> words = np.array([[5, 6, 7]])
      >>> slot_accuracy(np.array([[5, 6, 8]]), words, np.array([[False, True, True]])).tolist()
      [0.5]
    """
    right = (predicted == words) & slots
    return right.sum(axis=1) / np.maximum(slots.sum(axis=1), 1)


def exact_match(
    predicted: Int[np.ndarray, "E T"],
    words: Int[np.ndarray, "E T"],
    target: Bool[np.ndarray, "E T"],
) -> Float[np.ndarray, " E"]:
    """1 where every word of the caption is right.

    Example:
      >>> words = np.array([[5, 6, 7]])
      >>> exact_match(np.array([[0, 6, 7]]), words, np.array([[False, True, True]])).tolist()
      [1.0]
    """
    return np.all((predicted == words) | ~target, axis=1).astype(float)
