"""What each line of the file says: a picture, texts about it, boxes of their words, a split."""

import dataclasses
import os
import re
import reprlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line
from crossattn.data.folder.boxes import Box, parse_boxes
from crossattn.data.folder.masks import PhraseMask, parse_masks
from crossattn.data.folder.table import BadLines, TableRow, is_within
from crossattn.data.language import mentions
from crossattn.data.words import spelling, split_words

__all__ = [
    "ColumnNames",
    "PictureLine",
    "find_columns",
    "parse_lines",
    "read_captions",
    "read_text",
    "split_of",
]

# What people call each column; one may be named by an option.
CALLED = {
    "image": ("image", "file", "file_name", "filename"),
    "caption": ("caption", "captions", "text"),
    "question": ("question",),
    "answer": ("answer",),
    "split": ("split",),
    "boxes": ("boxes",),
    "masks": ("masks",),
}
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    "test": "test",
}
# Parts that a file may have beside these: combinations that training lacks, and other tests.
PAIRS, MORE_TESTS = "pairs", re.compile(r"test[\w.-]*")
# A text that is longer is none: it would make every batch as long.
MOST_WORDS = 256


@dataclasses.dataclass(frozen=True)
class ColumnNames:
    """Names of the columns; empty where the file has none."""

    image: str = ""
    caption: str = ""
    question: str = ""
    answer: str = ""
    split: str = ""
    boxes: str = ""
    masks: str = ""


@dataclasses.dataclass(frozen=True)
class PictureLine:
    """What one line says.

    Attributes:
        number: of the line.
        image: path of the picture within the folder.
        captions: texts about it.
        question: one, or empty.
        answer: to the question, as one token.
        split: train, validation, test or another to be judged by; empty where the file has no such
            column.
        boxes: of words or phrases of these texts.
        masks: of words or phrases of these texts.
    """

    number: int
    image: str
    captions: tuple[str, ...] = ()
    question: str = ""
    answer: str = ""
    split: str = ""
    boxes: tuple[Box, ...] = ()
    masks: tuple[PhraseMask, ...] = ()

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Each text with its answer, which captions do not have; the question first."""
        asked = [(self.question, self.answer)] if self.question else []
        return asked + [(caption, "") for caption in self.captions]


def find_columns(file: Path, rows: Iterable[TableRow], named: ColumnNames) -> ColumnNames:
    """The columns of a file, found by their names or named by the caller.

    Raises:
        DataError: there is no picture or no text, or a column is not there or could be several.
    """
    there = list(dict.fromkeys(name for row in rows for name in row.values))
    listed = one_line(", ".join(there)) or "none"
    found = {}
    for kind, called in CALLED.items():
        given = getattr(named, kind)
        if given and given not in there:
            raise DataError(
                f"--data.{kind}-column {given}: {file.name} has no such column; it has {listed}"
            )
        names = [name for name in there if name.strip().lower() in called]
        if not given and len(names) > 1:
            raise DataError(
                f"{file.name} has the columns {' and '.join(names)}: choose one, like "
                f"--data.{kind}-column {names[0]}"
            )
        found[kind] = given or next(iter(names), "")
    columns = ColumnNames(**found)
    if not columns.image:
        raise DataError(
            f"{file.name} has no column image (or file, file_name, filename); it has {listed}: "
            "name one with --data.image-column"
        )
    if not columns.caption and not columns.question:
        raise DataError(
            f"{file.name} has no column caption (or text) and no question; it has {listed}: name "
            "one with --data.caption-column, or --data.question-column and --data.answer-column"
        )
    if bool(columns.question) != bool(columns.answer):
        lacking = "answer" if columns.question else "question"
        raise DataError(
            f"{file.name} has no column {lacking} beside the {columns.question or columns.answer}; "
            f"it has {listed}: name one with --data.{lacking}-column"
        )
    return columns


def parse_lines(rows: Iterable[TableRow], columns: ColumnNames, bad: BadLines) -> list[PictureLine]:
    """The lines of a file; those that say nothing or what cannot be are collected."""
    lines: list[PictureLine] = []
    said: dict[PictureLine, int] = {}
    for row in rows:
        try:
            line = _line(row, columns)
            _check_phrases(line)
        except ValueError as error:
            bad.add(row.number, error)
            continue
        same = said.setdefault(dataclasses.replace(line, number=0, boxes=(), masks=()), row.number)
        if same != row.number:
            bad.add(row.number, f"says the same as {bad.unit} {same}")
            continue
        lines.append(line)
    return lines


def _line(row: TableRow, columns: ColumnNames) -> PictureLine:
    def value(kind: str) -> Any:
        return row.values.get(getattr(columns, kind))

    def read(kind: str, make: Callable[[str, Any], Any], default: Any) -> Any:
        there = value(kind)
        return default if there is None else make(getattr(columns, kind), there)

    image = value("image")
    if not isinstance(image, str) or not image.strip():
        raise ValueError(f"has no {columns.image}" if image is None else _wrong("a path", image))
    if not is_within(image):
        raise ValueError(f"the path {image} leads out of the folder")
    line = PictureLine(
        row.number,
        os.path.normpath(image),
        captions=read("caption", read_captions, ()),
        question=read("question", read_text, ""),
        answer=spelling(read("answer", read_text, "")),
        split=read("split", split_of, ""),
        boxes=tuple(read("boxes", lambda _, boxes: parse_boxes(boxes), ())),
        masks=tuple(read("masks", lambda _, masks: parse_masks(masks), ())),
    )
    if bool(line.question) != bool(line.answer):
        lacking, there = ("answer", "question") if line.question else ("question", "answer")
        raise ValueError(f"has no {lacking} to its {there}")
    if not line.texts:
        wanted = [name for name in (columns.caption, columns.question) if name]
        raise ValueError(f"has no {' and no '.join(wanted)}")
    if columns.split and not line.split:
        raise ValueError(f"has no {columns.split}, which other lines have")
    return line


def _wrong(expected: str, value: Any) -> str:
    return f"expected {expected}, got {reprlib.repr(value)}"


def read_text(name: str, value: Any) -> str:
    """A text of a column.

    Raises:
        ValueError: it is none, empty or too long.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name}: {_wrong('a text', value)}")
    words = len(split_words(value))
    if not words:
        raise ValueError(f"has an empty {name}")
    if words > MOST_WORDS:
        raise ValueError(f"{name} has {words:,} words, more than {MOST_WORDS}")
    return value


def read_captions(name: str, value: Any) -> tuple[str, ...]:
    """A text of a column, or a list of them.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        raise ValueError(f"{name} is a list written as text: write a line for each caption")
    return tuple(read_text(name, one) for one in (value if isinstance(value, list) else [value]))


def split_of(name: str, value: Any) -> str:
    """The part that a column names, by what people call it.

    Raises:
        ValueError: it is none of those.
    """
    said = value.strip().lower() if isinstance(value, str) else ""
    if said == PAIRS or MORE_TESTS.fullmatch(said):
        return said
    if said not in SPLITS:
        expected = f"train, validation, test, {PAIRS} or a name that begins with test"
        raise ValueError(f"{name}: {_wrong(expected, value)}")
    return SPLITS[said]


def _check_phrases(line: PictureLine) -> None:
    """Make sure that what has a region is said in a text of the line, and has one of one kind."""
    for what, found in (("box", line.boxes), ("mask", line.masks)):
        for phrase in dict.fromkeys(one.phrase for one in found):
            texts = (text for pair in line.texts for text in pair)
            if not any(list(mentions(split_words(text), {phrase: 0})) for text in texts):
                raise ValueError(f"has a {what} of {' '.join(phrase)!r}, which no text of it says")
    both = {box.phrase for box in line.boxes} & {mask.phrase for mask in line.masks}
    if both:
        raise ValueError(f"has a box and a mask of {' '.join(min(both))!r}: give one of them")
