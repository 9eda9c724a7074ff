"""Tokens into words, and the times of tokens into those of words."""

import dataclasses
import string
from collections.abc import Callable, Sequence

import numpy as np

from crossattn.align.arguments import finite_numbers, of_one_shape
from crossattn.shapes import Float

__all__ = ["TimedWord", "group_tokens", "timed_words"]

# A text, and the places of its tokens.
Grouped = tuple[str, tuple[int, ...]]

# What belongs to the word after it, and to the word before it: as published with Whisper.
OPENING = "\"'“¿([{-"
CLOSING = "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
BROKEN = "\ufffd"


@dataclasses.dataclass(frozen=True)
class TimedWord:
    """A spoken word.

    Attributes:
      text: with its punctuation, without spaces around it.
      start: in seconds.
      stop: in seconds, not before `start`.
      confidence: mean probability of its tokens.
      tokens: their places in the text.

    Example:
      >>> TimedWord("Hello,", 0.1, 0.42, 0.93, (0, 1)).stop
      0.42
    """

    text: str
    start: float
    stop: float
    confidence: float
    tokens: tuple[int, ...]


def group_tokens(
    tokens: Sequence[int], decode: Callable[[list[int]], str], *, spaced: bool = True
) -> list[Grouped]:
    """The words of a text, each with the places of its tokens.

    A word begins with a space or is punctuation; punctuation then goes to the word that it stands
    at, as published with Whisper. Tokens that are parts of one letter stay together.

    Args:
      tokens: of the text, without special ones.
      decode: gives the text of some of them, with spaces, and U+FFFD for a part of a letter.
      spaced: whether spaces divide words; not so in Chinese, Japanese, Thai, Lao, Burmese, where
        letters do.

    Example:
      >>> pieces = [" Hel", "lo", ",", ' "', "you", '"', "!"]
      >>> decode = lambda some: "".join(pieces[token] for token in some)
      >>> group_tokens(range(7), decode)
      [(' Hello,', (0, 1, 2)), (' "you"!', (3, 4, 5, 6))]
    """
    words: list[Grouped] = []
    for text, places in _whole_letters(tokens, decode):
        alone = not spaced or text.startswith(" ") or text.strip() in string.punctuation
        if words and not alone:
            text, places = words[-1][0] + text, words[-1][1] + places
            words.pop()
        words.append((text, places))
    return _closed(_opened(words))


def _whole_letters(tokens: Sequence[int], decode: Callable[[list[int]], str]) -> list[Grouped]:
    whole = decode(list(tokens))
    parts: list[Grouped] = []
    places: list[int] = []
    offset = 0
    for place, _ in enumerate(tokens):
        places.append(place)
        text = decode([tokens[one] for one in places])
        broken = text.find(BROKEN)
        # A letter that the text itself has in the place of a broken one is whole.
        if broken < 0 or whole[offset + broken : offset + broken + 1] in ("", BROKEN):
            parts.append((text, tuple(places)))
            offset, places = offset + len(text), []
    if places:
        parts.append((decode([tokens[one] for one in places]), tuple(places)))
    return parts


def _opened(words: list[Grouped]) -> list[Grouped]:
    """Opening signs, which stand alone after a space, with the word that follows."""
    found: list[Grouped] = []
    for text, places in reversed(words):
        if found and text.startswith(" ") and text.strip() in OPENING:
            text, places = text + found[-1][0], places + found[-1][1]
            found.pop()
        found.append((text, places))
    return found[::-1]


def _closed(words: list[Grouped]) -> list[Grouped]:
    """Closing signs with the word before them."""
    found: list[Grouped] = []
    for text, places in words:
        if found and text in CLOSING and not found[-1][0].endswith(" "):
            text, places = found[-1][0] + text, found[-1][1] + places
            found.pop()
        found.append((text, places))
    return found


def timed_words(
    words: Sequence[tuple[str, Sequence[int]]],
    starts: Float[np.ndarray, " T1"],
    probabilities: Float[np.ndarray, " T"],
    *,
    offset: float = 0.0,
) -> list[TimedWord]:
    """Words with their times: from the start of their first token to that of the token after them.

    Args:
      words: of `group_tokens`.
      starts: of the T tokens and of the end of the text, `token_starts`, T1 = T + 1.
      probabilities: of the T tokens.
      offset: seconds to add.

    Raises:
      ValueError: arrays that do not fit, or places beyond them.

    Example:
      >>> timed_words([(" a", [0, 1])], np.array([0.5, 0.6, 0.9]), np.array([1.0, 0.5]))
      [TimedWord(text='a', start=0.5, stop=0.9, confidence=0.75, tokens=(0, 1))]
    """
    starts = finite_numbers("starts", starts)
    of_one_shape("T", starts=starts[1:], probabilities=probabilities)
    last = max((max(places) for _, places in words), default=-1)
    if last >= len(probabilities):
        raise ValueError(f"there are {len(probabilities)} tokens, and a word has token {last}")
    return [
        TimedWord(
            text.strip(),
            float(offset + starts[places[0]]),
            float(offset + starts[places[-1] + 1]),
            float(np.mean([probabilities[place] for place in places])),
            tuple(places),
        )
        for text, places in words
    ]
