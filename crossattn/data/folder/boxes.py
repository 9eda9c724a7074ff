"""Boxes of phrases: where in the picture is what a text names."""

import math
import reprlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from crossattn.data.folder.table import parse_json
from crossattn.data.language import mentions
from crossattn.data.words import split_words

__all__ = ["Box", "Phrases", "answer_phrases", "in_shares", "parse_boxes"]

Phrase = tuple[str, ...]
Phrases = dict[Phrase, int]
# Answers that name nothing, even where a phrase has the word ("no entry sign").
VERDICTS = (["yes"], ["no"])
NAMES, PLACES = ("phrase", "word"), ("box", "bbox")
# Boxes may miss the sides by so many pixels, or hundredths, as rounding leaves them.
SLACK_PIXELS, SLACK_SHARE = 1.0, 0.01


class Box(NamedTuple):
    """Four numbers, as the file has them, and the words whose region they are."""

    phrase: Phrase
    numbers: tuple[float, float, float, float]


def parse_boxes(value: Any) -> list[Box]:
    """The boxes of a line: {"red ring": [...]}, {"ring": [[...], [...]]}, or a list of objects.

    Raises:
        ValueError: it is nothing of the kind.

    Example:
        >>> parse_boxes({"Red ring": [1, 2, 3, 4]})
        [Box(phrase=('red', 'ring'), numbers=(1.0, 2.0, 3.0, 4.0))]
        >>> parse_boxes([{"word": "ring", "box": [1, 2, 3, 4]}])
        [Box(phrase=('ring',), numbers=(1.0, 2.0, 3.0, 4.0))]
    """
    if isinstance(value, str):  # a field of a csv file
        value = parse_json(value)
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(one, dict) for one in value):
        pairs = [(_only(one, NAMES), _only(one, PLACES)) for one in value]
    else:
        raise ValueError(
            'boxes takes {"red ring": [x0, y0, x1, y1]} or a list of {"phrase": ..., "box": ...}, '
            f"got {reprlib.repr(value)}"
        )
    return [box for phrase, where in pairs for box in _boxes(phrase, where)]


def _only(one: dict[str, Any], names: tuple[str, ...]) -> Any:
    there = [name for name in names if name in one]
    if len(there) != 1:
        raise ValueError(f"a box takes {' or '.join(names)}, got {reprlib.repr(one)}")
    return one[there[0]]


def _boxes(phrase: Any, where: Any) -> Iterator[Box]:
    words = tuple(split_words(phrase)) if isinstance(phrase, str) else ()
    if not words:
        raise ValueError(f"a box is of a word or a phrase, got {reprlib.repr(phrase)}")
    several = isinstance(where, list) and where and isinstance(where[0], list)
    for one in where if several else [where]:
        numbers = [n for n in one if _is_number(n)] if isinstance(one, list) else []
        if len(numbers) != 4 or len(one) != 4:
            raise ValueError(f"the box of {phrase!r} takes 4 numbers, got {reprlib.repr(one)}")
        yield Box(words, (float(one[0]), float(one[1]), float(one[2]), float(one[3])))


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def in_shares(box: Box, form: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box as ymin, xmin, ymax, xmax in shares of the sides, in 0 to 1.

    Args:
        box: as the file has it.
        form: pixels or shares (both x0, y0, x1, y1), or xywh (x, y, width, height in pixels).
        size: width and height of the picture.

    Raises:
        ValueError: it has no area, or lies outside of the picture.

    Example:
        >>> in_shares(Box(("ring",), (10.0, 20.0, 30.0, 40.0)), "pixels", (100, 50))
        (0.4, 0.1, 0.8, 0.3)
    """
    x0, y0, x1, y1 = box.numbers
    said = f"the box {[*map(_plain, box.numbers)]} of {' '.join(box.phrase)!r}"
    if form == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    if not (x0 < x1 and y0 < y1):
        other = " (x, y, width, height is --data.box-format xywh)" if form == "pixels" else ""
        kind = "x, y, width, height" if form == "xywh" else "x0, y0, x1, y1"
        raise ValueError(f"{said} has no area: expected {kind}{other}")
    width, height = (1, 1) if form == "shares" else size
    slack = SLACK_SHARE if form == "shares" else SLACK_PIXELS
    if min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack:
        if form == "shares":
            raise ValueError(f"{said} is no share of 0 to 1 (pixels are --data.box-format pixels)")
        raise ValueError(f"{said} leaves its picture of {width} x {height} pixels")
    clip = lambda number, side: min(max(number / side, 0.0), 1.0)
    return clip(y0, height), clip(x0, width), clip(y1, height), clip(x1, width)


def _plain(number: float) -> float | int:
    return int(number) if number == int(number) else number


def answer_phrases(phrases: Phrases, question: str, answer: str) -> Phrases:
    """The phrases of a question's words, and of its answer, which is one token.

    An answer has the region of the one phrase that stands in it; or else that of the one phrase
    that it is a part of, unless the question has that phrase, or the answer itself.

    Example:
        >>> answer_phrases({("ring",): 0}, "what is it?", "the ring")[("the ring",)]
        0
        >>> answer_phrases({("red", "ring"): 0}, "what colour is the ring?", "red")[("red",)]
        0
    """
    spelt = split_words(answer)
    labels = {label for *_, label in mentions(spelt, phrases)}
    if not labels and spelt not in VERDICTS:
        whole = {phrase: label for phrase, label in phrases.items() if set(spelt) <= set(phrase)}
        told = dict.fromkeys([*whole, tuple(spelt)], 0)
        if not any(mentions(split_words(question), told)):
            labels = set(whole.values())
    return phrases | {(answer,): labels.pop()} if len(labels) == 1 else phrases
