"""Recordings as pictures for reports: spectrograms, and where the words are in them."""

from collections.abc import Sequence

import numpy as np

from crossattn.data.recordings.lines import SpokenWord
from crossattn.data.recordings.sounds import Frames
from crossattn.shapes import Float, UInt8

__all__ = ["outlines", "spectrograms"]

# Pixels of a band, and of an average of frames: pictures of reports are not wide.
TALL, WIDE = 4, 2


def spectrograms(
    tokens: Float[np.ndarray, "N P F"], frames: Frames
) -> UInt8[np.ndarray, "N height width 3"]:
    """Pictures of recordings: time from left to right, low sounds below, dark is loud.

    Example:
        >>> spectrograms(np.zeros((1, 3, 20), np.float32), Frames(10, 5, 4)).shape
        (1, 16, 30, 3)
    """
    count, length, _ = tokens.shape
    values = tokens.reshape(count, length * frames.slices, frames.bands).swapaxes(1, 2)[:, ::-1]
    low, high = values.min(axis=(1, 2), keepdims=True), values.max(axis=(1, 2), keepdims=True)
    grey = 255 - np.rint(255 * (values - low) / np.maximum(high - low, 1e-6)).astype(np.uint8)
    return grey.repeat(TALL, axis=1).repeat(WIDE, axis=2)[..., None].repeat(3, axis=-1)


def outlines(
    words: Sequence[Sequence[SpokenWord]], frames: Frames, count: int
) -> UInt8[np.ndarray, "N height width"]:
    """Where words are in pictures of `count` tokens: 0 silence, o + 1 for word o.

    Example:
        >>> said = [[SpokenWord(("one",), 0.0, 0.1), SpokenWord(("two",), 0.15, 0.2)]]
        >>> outlines(said, Frames(10, 5, 4), 2)[0, 0, ::5].tolist()
        [1, 1, 0, 2]
    """
    wide = frames.slices * WIDE
    middle = (np.arange(count * wide) + 0.5) / wide * frames.seconds
    found = np.zeros((len(words), len(middle)), np.uint8)
    for row, own in zip(found, words, strict=True):
        for number, word in enumerate(own, 1):
            row[(middle >= word.start) & (middle < word.end)] = number
    return found[:, None].repeat(frames.bands * TALL, axis=1)
