"""Pauses of speech, and words that begin and end at them.

Heads turn to the next word before the present one is over, so that boundaries by dynamic time
warping lie up to half a second early. Where speech is silent there, the silence says better where a
word ends and the next one begins: what voice activity detection does in other aligners (Bain et al.
2023, "WhisperX").
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from crossattn.align.arguments import finite_numbers, not_empty
from crossattn.align.tokens_in_time import TimedWord
from crossattn.shapes import Float

__all__ = ["find_pauses", "words_at_pauses"]

# Seconds of a step and of the window whose loudness is taken; the shortest pause.
STEP, WINDOW, SHORTEST = 0.005, 0.015, 0.04
# Silence is nearer to the background than to speech, at most so many decibels below speech.
SHARE, DEEPEST = 0.3, 60.0


def find_pauses(samples: Float[np.ndarray, " N"], rate: int = 16_000) -> Float[np.ndarray, "P 2"]:
    """From when to when a sound is silent, in seconds, in order.

    Loudness is that of windows of 15 ms; silent is what lies in the lowest 0.3 of the decibels
    between the background (the quietest 5 %, or 60 dB below speech) and speech (the loudest 5 %),
    for 40 ms or at an end of the sound.

    Raises:
      ValueError: another shape, no sample, or samples that are not finite.

    Example:
      >>> hum = np.sin(np.arange(16_000) * 0.2)
      >>> hum[8_000:12_000] = 0
      >>> find_pauses(hum).round(2).tolist()
      [[0.51, 0.74]]
    """
    samples = not_empty("samples", finite_numbers("samples", samples), "N").astype(np.float64)
    step, window = round(STEP * rate), round(WINDOW * rate)
    power = np.convolve(samples**2, np.full(window, 1 / window), "same")[::step]
    loudness = 10 * np.log10(np.maximum(power, 1e-18))
    background, speech = np.quantile(loudness, [0.05, 0.95])
    background = max(background, speech - DEEPEST)
    # Of a sound that is everywhere as loud nothing is a pause.
    silent = (loudness < background + SHARE * (speech - background)) & (speech > background + 6)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]]))).reshape(-1, 2)
    long = (edges[:, 1] - edges[:, 0]) * STEP >= SHORTEST
    at_end = (edges[:, 0] == 0) | (edges[:, 1] == len(silent))
    return edges[long | at_end] * STEP


def words_at_pauses(
    words: Sequence[TimedWord], pauses: Float[np.ndarray, "P 2"], *, reach: float = 0.5
) -> list[TimedWord]:
    """Words whose boundaries lie at the pauses near to them.

    A boundary between two words is moved to the pause that is nearest, at most `reach` seconds
    away: the first word ends where it begins, the second begins where it ends. A pause takes one
    boundary, the nearest one; a boundary without a pause stays. Words stay in order.

    Raises:
      ValueError: pauses of another shape, or not finite.

    Example:
      >>> words = [TimedWord("a", 0.0, 0.9, 1.0, (0,)), TimedWord("b", 0.9, 2.0, 1.0, (1,))]
      >>> found = words_at_pauses(words, np.array([[1.0, 1.2]]))
      >>> [(word.start, word.stop) for word in found]
      [(0.0, 1.0), (1.2, 2.0)]
    """
    pauses = finite_numbers("pauses", pauses).reshape(-1, 2)
    if not words:
        return []
    bounds = np.array([words[0].start, *(word.stop for word in words)])
    ends, begins = bounds.copy(), bounds.copy()
    for bound, pause in _pairs(bounds, pauses, reach):
        ends[bound], begins[bound] = pauses[pause]
    # Where a boundary that stayed would stand behind one that was moved, they meet.
    starts = np.maximum.accumulate(begins[:-1])
    stops = np.maximum(np.minimum.accumulate(ends[:0:-1])[::-1], starts)
    return [
        dataclasses.replace(word, start=float(start), stop=float(stop))
        for word, start, stop in zip(words, starts, stops, strict=True)
    ]


def _pairs(bounds, pauses, reach):
    """(boundary, pause) of those that belong together, the nearest first; in the order of time."""
    away = np.maximum(pauses[:, 0] - bounds[:, None], bounds[:, None] - pauses[:, 1]).clip(0)
    taken: dict[int, int] = {}
    for place in np.argsort(away, axis=None, kind="stable"):
        bound, pause = divmod(int(place), len(pauses))
        if away[bound, pause] > reach:
            break
        ordered = all((b < bound) == (p < pause) for b, p in taken.items())
        if bound not in taken and pause not in taken.values() and ordered:
            taken[bound] = pause
    return taken.items()
