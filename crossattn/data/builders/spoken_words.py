"""Recorded words behind one another, with silence between them: where each is, is known.

One real voice says 26 words of the spelling alphabet and ten digits, a recording of each. The
silence around a word is cut off, and three to six different words stand in a recording, with
silence between them and each at a level of its own.
"""

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from crossattn.data.errors import DataError
from crossattn.shapes import Float

__all__ = ["RATE", "SHARE", "WORDS", "Spoken", "draw_spoken", "held_out", "trimmed"]

LETTERS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india"),
    *("juliet", "kilo", "lima", "mike", "november", "oscar", "papa", "quebec", "romeo"),
    *("sierra", "tango", "uniform", "victor", "whiskey", "xray", "yankee", "zulu"),
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Where the package has the recording of each word.
WORDS = {word: f"phonetic/{word[0]}_p.wav" for word in LETTERS} | {
    word: f"digits/{number}.wav" for number, word in enumerate(DIGITS)
}
RATE = 8_000
# A word begins and ends where its level over 10 ms is so far below its peak, in decibels.
SILENT = -40
# Words of a recording, seconds of silence, the level of a word's peak.
FEWEST, MOST = 3, 6
BEFORE, BETWEEN, LEVEL = (0.1, 0.5), (0.08, 0.4), (0.2, 0.8)
# One pair of words in so many is held out.
SHARE = 6


@dataclasses.dataclass(frozen=True)
class Spoken:
    """One recording: its words, and the second at which each begins and ends."""

    samples: np.ndarray
    words: tuple[str, ...]
    starts: tuple[float, ...]
    ends: tuple[float, ...]

    def said(self) -> dict[str, Any]:
        """Its words and their times, as the file of texts has them."""
        times = zip(self.words, self.starts, self.ends, strict=True)
        return {"words": [{"word": w, "start": start, "end": end} for w, start, end in times]}


def trimmed(samples: Float[np.ndarray, " N"]) -> Float[np.ndarray, " M"]:
    """A recorded word without the silence around it, its peak at 1.

    Raises:
        DataError: nothing is said.

    Example:
        >>> word = np.pad(np.sin(np.arange(4_000)), 2_000)
        >>> 4_000 <= len(trimmed(word)) < 4_100
        True
    """
    peak = np.abs(samples).max(initial=0)
    if not peak:
        raise DataError("a recording of a word is silent")
    level = np.sqrt(np.convolve((samples / peak) ** 2, np.ones(80) / 80, "same"))
    loud = np.flatnonzero(level > 10 ** (SILENT / 20))
    return np.asarray(samples[loud[0] : loud[-1] + 1] / peak)


def held_out(words: list[str], rng: np.random.Generator) -> set[tuple[str, str]]:
    """Pairs (a word, the word behind it) that training has not: a sixth, as many of each word.

    Example:
        >>> pairs = held_out(list("abcdefghijkl"), np.random.default_rng(0))
        >>> len(pairs), len({first for first, _ in pairs}), len({second for _, second in pairs})
        (24, 12, 12)
    """
    order = rng.permutation(len(words))
    behind = range(1, 1 + len(words) // SHARE)
    turn = lambda place: words[order[place % len(words)]]
    return {(turn(n), turn(n + step)) for n in range(len(words)) for step in behind}


def draw_spoken(
    voice: Mapping[str, Float[np.ndarray, " N"]],
    rng: np.random.Generator,
    apart: set[tuple[str, str]],
    *,
    pair: bool,
) -> Spoken:
    """A recording of three to six different words.

    Args:
        voice: samples of each word, its peak at 1.
        rng: what all is drawn from.
        apart: pairs that stand in it only if `pair`, and then exactly one of them.
        pair: whether it is for the split `pairs`.
    """
    known, count = list(voice), int(rng.integers(FEWEST, MOST + 1))
    while True:
        words = tuple(known[n] for n in rng.permutation(len(known))[:count])
        if sum(two in apart for two in pairwise(words)) == pair:
            break
    parts, starts, ends, now = [], [], [], 0
    for place, word in enumerate(words):
        silence = round(rng.uniform(*(BETWEEN if place else BEFORE)) * RATE)
        level = LEVEL[0] * (LEVEL[1] / LEVEL[0]) ** rng.uniform()
        parts += [np.zeros(silence), voice[word] * level]
        starts.append((now + silence) / RATE)
        now += silence + len(voice[word])
        ends.append(now / RATE)
    parts.append(np.zeros(round(BEFORE[0] * RATE)))
    return Spoken(np.concatenate(parts), words, tuple(starts), tuple(ends))
