"""Tokens into words, and the times of tokens into those of words."""

import dataclasses
import string
from collections.abc import Callable, Sequence

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, of_one_shape
from crossattn.align.word_times import SECONDS, token_starts
from crossattn.shapes import Bool, Float

__all__ = ["TimedWord", "group_tokens", "spoken_starts", "spoken_tokens", "timed_words"]

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


def spoken_tokens(
    words: Sequence[Grouped], tokens: Sequence[int], decode: Callable[[list[int]], str]
) -> Bool[np.ndarray, " T"]:
    """Which tokens are heard: those with letters or digits, and all of words that have none.

    Example:
      >>> pieces = [" Hi", ",", " -"]
      >>> decode = lambda some: "".join(pieces[token] for token in some)
      >>> spoken_tokens(group_tokens(range(3), decode), range(3), decode).tolist()
      [True, False, True]
    """
    heard = lambda text: any(letter.isalnum() or letter == BROKEN for letter in text)
    spoken = np.array([heard(decode([token])) for token in tokens], bool)
    for _, places in words:
        if not spoken[list(places)].any():
            spoken[list(places)] = True
    return spoken


def spoken_starts(
    weights: Float[np.ndarray, "H T1 S"],
    spoken: Bool[np.ndarray, " T"],
    *,
    seconds_per_frame: float = SECONDS,
) -> Float[np.ndarray, " T1"]:
    """When each token begins, by the rows of spoken tokens alone; others begin with the next one.

    A decoder that is about to write a comma looks at what follows it: with its row, the path would
    give it the beginning of the next word.

    Args:
      weights: of the alignment heads, of the rows that predict the T tokens and the end.
      spoken: of `spoken_tokens`.
      seconds_per_frame: see `token_starts`.

    Raises:
      ValueError: arrays that do not fit.

    Example:
      >>> rows = np.repeat(np.eye(3), 50, axis=1)[None]
      >>> spoken_starts(rows, np.array([True, False])).tolist()
      [0.0, 2.0, 2.0]
    """
    kept = np.append(boolean("spoken", spoken), True)
    of_one_shape("T1", weights=weights[0, :, 0], spoken=kept)
    starts = token_starts(weights[:, kept], seconds_per_frame=seconds_per_frame)
    # The next kept one of each.
    return starts[np.cumsum(kept) - kept]


def timed_words(
    words: Sequence[tuple[str, Sequence[int]]],
    starts: Float[np.ndarray, " T1"],
    probabilities: Float[np.ndarray, " T"],
    spoken: Bool[np.ndarray, " T"] | None = None,
    *,
    offset: float = 0.0,
) -> list[TimedWord]:
    """Words with their times: from the start of their first token to that of the token after them.

    Args:
      words: of `group_tokens`.
      starts: of the T tokens and of the end of the text, `token_starts`, T1 = T + 1.
      probabilities: of the T tokens.
      spoken: which of them count in the confidence of a word; all if None.
      offset: seconds to add.

    Raises:
      ValueError: arrays that do not fit, or places beyond them.

    Example:
      >>> timed_words([(" a", [0, 1])], np.array([0.5, 0.6, 0.9]), np.array([1.0, 0.5]))
      [TimedWord(text='a', start=0.5, stop=0.9, confidence=0.75, tokens=(0, 1))]
    """
    starts = finite_numbers("starts", starts)
    counted = np.ones(len(probabilities), bool) if spoken is None else boolean("spoken", spoken)
    of_one_shape("T", starts=starts[1:], probabilities=probabilities, spoken=counted)
    last = max((max(places) for _, places in words), default=-1)
    if last >= len(probabilities):
        raise ValueError(f"there are {len(probabilities)} tokens, and a word has token {last}")
    return [
        TimedWord(
            text.strip(),
            float(offset + starts[places[0]]),
            float(offset + starts[places[-1] + 1]),
            float(np.mean([probabilities[place] for place in places if counted[place]])),
            tuple(places),
        )
        for text, places in words
    ]
