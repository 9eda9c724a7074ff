"""What each line of the file says: a recording, texts about it, when its words are said."""

import math
import os
import reprlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from crossattn.data.errors import DataError, one_line
from crossattn.data.folder.lines import read_captions, read_text, split_of
from crossattn.data.folder.table import BadLines, TableRow, is_within, parse_json
from crossattn.data.words import spelling, split_words

__all__ = ["EXAMPLE", "RecordingLine", "SpokenWord", "recording_lines"]

EXAMPLE = (
    '{"audio": "a.wav", "caption": "one two", "words": [{"word": "one", "start": 0.1, "end": 0.4}, '
    '{"word": "two", "start": 0.5, "end": 0.9}]}'
)
KNOWN = ("audio", "caption", "question", "answer", "kind", "split", "words", "evidence")
# Alignments in hundredths of a second may overlap by one.
SLACK = 0.0101


class SpokenWord(NamedTuple):
    """A word, and the seconds at which it begins and ends."""

    spelt: tuple[str, ...]
    start: float
    end: float


class RecordingLine(NamedTuple):
    """What one line says.

    Attributes:
        number: of the line.
        audio: path of the recording within the folder.
        captions: texts about it.
        question: one, or empty.
        answer: to the question, as one token.
        kind: of the question, for tables of a report; empty where the line has none.
        split: train, validation, test, pairs or another test; empty where the file has none.
        words: what is said in the recording, in the order of time; None where the line is silent
            about that.
        evidence: numbers of those words, from 0, that show the answer; None where the line does
            not say.
    """

    number: int
    audio: str
    captions: tuple[str, ...]
    question: str
    answer: str
    kind: str
    split: str
    words: tuple[SpokenWord, ...] | None
    evidence: tuple[int, ...] | None


def recording_lines(file: Path, rows: Iterable[TableRow], bad: BadLines) -> list[RecordingLine]:
    """The lines of a file; those that say nothing or what cannot be are collected.

    Raises:
        DataError: the file has no column audio, or no texts.
    """
    rows = list(rows)
    there = {name for row in rows for name in row.values}
    listed = one_line(", ".join(sorted(there))) or "none"
    for wanted in (("audio",), ("caption", "question")):
        if there.isdisjoint(wanted):
            raise DataError(
                f"{file.name} has no column {' or '.join(wanted)}; it has {listed}: expected lines "
                f"like {EXAMPLE}"
            )
    lines: list[RecordingLine] = []
    said: dict[RecordingLine, int] = {}
    for row in rows:
        try:
            line = _line(row, "split" in there)
        except ValueError as error:
            bad.add(row.number, error)
            continue
        same = said.setdefault(line._replace(number=0, words=None), row.number)
        if same != row.number:
            bad.add(row.number, f"says the same as {bad.unit} {same}")
            continue
        lines.append(line)
    return lines


def _line(row: TableRow, divided: bool) -> RecordingLine:
    there = {name: row.values.get(name) for name in KNOWN}
    audio = there["audio"]
    if not isinstance(audio, str) or not audio.strip():
        raise ValueError("has no audio")
    if not is_within(audio):
        raise ValueError(f"the path {audio} leads out of the folder")
    text = lambda name: "" if there[name] is None else read_text(name, there[name])
    line = RecordingLine(
        row.number,
        os.path.normpath(audio),
        () if there["caption"] is None else read_captions("caption", there["caption"]),
        text("question"),
        spelling(text("answer")),
        spelling(text("kind")),
        "" if there["split"] is None else split_of("split", there["split"]),
        None if there["words"] is None else _words(there["words"]),
        None if there["evidence"] is None else _numbers(there["evidence"]),
    )
    if bool(line.question) != bool(line.answer):
        lacking, other = ("answer", "question") if line.question else ("question", "answer")
        raise ValueError(f"has no {lacking} to its {other}")
    if not line.captions and not line.question:
        raise ValueError("has no caption and no question")
    if divided and not line.split:
        raise ValueError("has no split, which other lines have")
    if there["kind"] is not None and (line.kind == "caption" or len(line.kind.split()) > 1):
        raise ValueError(f"kind takes one word, and not caption, got {reprlib.repr(line.kind)}")
    for name in ("kind", "evidence"):
        if there[name] is not None and not line.question:
            raise ValueError(f"has {name} and no question")
    return line


def _words(value: Any) -> tuple[SpokenWord, ...]:
    """The words of a recording, in the order of time, none in another.

    Example:
        >>> _words([{"word": "One", "start": 0.1, "end": 0.4}])
        (SpokenWord(spelt=('one',), start=0.1, end=0.4),)
    """
    if isinstance(value, str):  # a field of a csv file
        value = parse_json(value)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError(
            'words takes a list of {"word": "one", "start": 0.1, "end": 0.4}, got '
            f"{reprlib.repr(value)}"
        )
    found = [_word(one) for one in value]
    for place, (one, other) in enumerate(pairwise(found), 1):
        if other.start < one.end - SLACK or other.end <= one.end:
            raise ValueError(
                f"words: {' '.join(other.spelt)!r} begins at {other.start:g} s, before "
                f"{' '.join(one.spelt)!r} ends at {one.end:g} s"
            )
        found[place] = other._replace(start=max(other.start, one.end))
    return tuple(found)


def _word(value: dict[str, Any]) -> SpokenWord:
    spelt = tuple(split_words(value["word"])) if isinstance(value.get("word"), str) else ()
    start, end = (_second(value.get(name)) for name in ("start", "end"))
    if not spelt or start is None or end is None or not 0 <= start < end:
        raise ValueError(
            "a word takes a text and the seconds where it starts and ends, got "
            f"{reprlib.repr(value)}"
        )
    return SpokenWord(spelt, start, end)


def _second(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _numbers(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):  # a field of a csv file
        value = parse_json(value)
    known = isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)
    if not known or len(set(value)) < len(value):
        raise ValueError(
            f"evidence takes numbers of words, from 0, like [1], got {reprlib.repr(value)}"
        )
    return tuple(value)
