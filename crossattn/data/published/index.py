"""The texts of one split, gathered by picture: what a run reads while it trains."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossattn.data.canvas import Canvas, Shown
from crossattn.data.errors import DataError
from crossattn.data.orientation import Sides, same_sides
from crossattn.data.pictures import decode_sized
from crossattn.data.published.lines import AnnotatedLine, Place, Region, read_place
from crossattn.data.published.spool import Spool
from crossattn.data.records import ImageRecord
from crossattn.data.words import spelling, split_words
from crossattn.shapes import UInt8

__all__ = ["AnnotatedPictures", "UnreadPictures"]

# A text that is longer is none: it would make every batch as long.
MOST_WORDS = 256


class AnnotatedPictures(Sequence):
    """The pictures of a split with their texts, each read when it is asked for.

    Args:
        canvas: on which pictures are shown.
        folder: within which a picture has its name.

    Attributes:
        answers: those that questions may have; others are left out. None: any.
        counts: how often each answer is given.
    """

    def __init__(self, canvas: Canvas, folder: str):
        self.canvas, self.spool = canvas, Spool()
        self._above = os.path.join(folder, "")
        self.digest = hashlib.blake2b(digest_size=8)
        self.counts: Counter[str] = Counter()
        self.answers: frozenset[str] | None = None

    def add(self, line: AnnotatedLine, name: str = "") -> None:
        """One more text of its picture, or of what has this name.

        Raises:
            DataError: names the entry whose text is empty or too long.
        """
        words = len(split_words(line.text))
        if not 0 < words <= MOST_WORDS:
            raise DataError(
                f"{line.where}: has a text of {words} words, expected 1 to {MOST_WORDS}"
            )
        said = line._replace(answer=spelling(line.answer))
        if said.answer:
            self.counts[said.answer] += 1
        # The set stays the same in another folder.
        named = said._replace(pictures=tuple(map(os.path.basename, said.pictures)))
        self.digest.update(repr(named).encode())
        names = (picture.removeprefix(self._above) for picture in line.pictures)
        self.spool.add(name or "\0".join(names), said)

    def gather(self) -> None:
        """Done with adding."""
        self.groups = self.spool.groups()

    def __len__(self) -> int:
        return len(self.groups)

    def keys(self, numbers: np.ndarray) -> np.ndarray:
        """64 bits of the names of pictures (n,), the same wherever the folder lies."""
        first = self.groups.order[self.groups.begins[numbers]]
        return np.array(self.spool.keys, np.uint64)[first]

    def whole(self, index: int) -> UInt8[np.ndarray, "height width 3"]:
        """A picture in its own size.

        Raises:
            DataError: names the picture that cannot be read.
        """
        line = self.lines(index)[0]
        return _pixels(line, line.pictures[0], lambda sides: sides)

    def lines(self, index: int) -> list[AnnotatedLine]:
        """All that is said of a picture."""
        return [_line(self.spool.value(place)) for place in self.groups[index]]

    def texts(self, index: int) -> ImageRecord:
        """The record of a picture, which stays unread."""
        return self._record(self.lines(index), None)

    def __getitem__(self, index: Any) -> Any:
        """The record of a picture.

        Raises:
            DataError: names the picture that cannot be read, or that has another size than its
                annotations say.
        """
        lines = self.lines(index)
        return self._record(lines, _show(lines[0], self.canvas))

    def where(self, index: int) -> str:
        """Spell where a record lies, for messages."""
        return self.lines(index)[0].where

    def unread(self) -> "UnreadPictures":
        """The same records without pixels."""
        return UnreadPictures(self)

    def _record(self, lines: Sequence[AnnotatedLine], shown: Shown | None) -> ImageRecord:
        asked = [line for line in lines if line.answer and self._is_known(line.answer)]
        told = [line for line in lines if not line.answer]
        numbers: dict[tuple[Place, ...], int] = {}
        spans = [
            tuple(
                (region.start, region.stop, numbers.setdefault(region.places, len(numbers)))
                for region in line.regions
            )
            for line in (*asked, *told)
        ]
        boxes = [(place, label) for places, label in numbers.items() for place in places]
        share = shown.share if shown else (1.0, 1.0)
        return ImageRecord(
            shown and shown.pixels,
            [(line.text, line.answer) for line in asked],
            [line.text for line in told],
            np.array([place for place, _ in boxes], np.float32).reshape(-1, 4)
            * np.array(share * 2, np.float32),
            [label for _, label in boxes],
            spans=spans,
            answers=[line.answers for line in asked],
            sentences=[line.sentence for line in (*asked, *told)],
            cells=shown.cells if shown else None,
        )

    def _is_known(self, answer: str) -> bool:
        return self.answers is None or answer in self.answers


class UnreadPictures:
    """Records whose pictures are not read: they have no pixels."""

    def __init__(self, pictures: AnnotatedPictures):
        self.pictures, self.where = pictures, pictures.where

    def __getitem__(self, index: int) -> ImageRecord:
        nothing = np.zeros((0, 0, 3), np.uint8)
        return dataclasses.replace(self.pictures.texts(index), image=nothing)


def _line(value: list[Any]) -> AnnotatedLine:
    """A line as it was before it became JSON, whose tuples are lists."""
    line = AnnotatedLine(*_tuples(value))
    return line._replace(regions=tuple(Region(*region) for region in line.regions))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _show(line: AnnotatedLine, canvas: Canvas) -> Shown:
    """The picture of a line, or two side by side."""
    fit = lambda sides: canvas.fit(sides, len(line.pictures))
    return canvas.show([_pixels(line, picture, fit) for picture in line.pictures])


def _pixels(line: AnnotatedLine, picture: str, fit: Callable[[Sides], Sides]) -> Any:
    """A picture of a line in the size that is wanted of the whole one."""
    name = picture.split("\0")[0]
    try:
        pixels, sides = decode_sized(read_place(picture), fit, line.size)
    except (OSError, DataError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"{name} ({line.where}) {why}") from None
    if line.size and not same_sides(sides, line.size):
        raise DataError(
            f"{name} has {sides[0]} x {sides[1]} pixels, {line.where} says "
            f"{line.size[0]} x {line.size[1]}"
        )
    return pixels
