"""What a reader of a set yields: one text about a picture, with the regions of its words."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.spool import name_key

__all__ = [
    "MALFORMED",
    "AnnotatedLine",
    "Folders",
    "Place",
    "Region",
    "SetReader",
    "box_in_shares",
    "entry_error",
    "find_file",
    "place_in_file",
    "read_place",
]

# ymin, xmin, ymax, xmax as shares of the sides.
Place = tuple[float, float, float, float]
# Boxes may miss the sides by so many pixels, as rounding leaves them.
SLACK_PIXELS = 2.0
# What an entry of another form than the published one raises where it is read.
MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError)


class Region(NamedTuple):
    """Words `start` to `stop` of a text, as `split_words` cuts it, and the boxes they are about.

    The word after the last one of a question is its answer.
    """

    start: int
    stop: int
    places: tuple[Place, ...]


class AnnotatedLine(NamedTuple):
    """One text about a picture.

    Attributes:
        split: train, validation, test, or the name of a split of pairs.
        pictures: files, or parts of one; of two, the first is shown left of the second. An empty
            one is missing.
        text: a caption or a question.
        answer: to the question; empty for captions.
        regions: of words.
        answers: what several people answered.
        sentence: the same for questions that are judged together.
        size: width and height that the annotations give the picture, or none.
        kind: a part of the set that has numbers of its own.
        where: which entry of which file this is, for messages.
    """

    split: str
    pictures: tuple[str, ...]
    text: str
    answer: str = ""
    regions: tuple[Region, ...] = ()
    answers: tuple[str, ...] = ()
    sentence: str = ""
    size: tuple[int, int] | None = None
    kind: str = ""
    where: str = ""


@runtime_checkable
class SetReader(Protocol):
    """Reads a set in the layout of its authors."""

    def __call__(self, data: Any, folders: "Folders") -> Iterator[AnnotatedLine]:
        """Yield its texts, by the settings of its source."""


class Folders:
    """Where a set lies, and where its pictures do.

    Attributes:
        missing: keys of the pictures that are not there.
        why: what the first of these is, and where it was looked for.
        where: which entry lacks it, where texts do not say it.

    Raises:
        DataError: a folder is not there.
    """

    def __init__(self, directory: str, pictures: str = ""):
        self.missing: set[int] = set()
        self.why = self.where = ""
        self.directory = Path(directory).expanduser()
        self.pictures = Path(pictures).expanduser() if pictures else self.directory
        for place in (self.directory, self.pictures):
            if not place.is_dir():
                raise DataError(f"there is no folder {place}")

    def picture(self, name: str, *inside: str) -> str:
        """The file of a picture, in one of some folders within that of the pictures.

        Where none has it, this is empty, and the picture is one of those that are missing.

        Raises:
            ValueError: the name leads out of it.
        """
        if os.path.isabs(name) or os.pardir in name.split("/") or "\0" in name:
            raise ValueError(f"the path {one_line(name)} leads out of the folder")
        for folder in inside or ("",):
            file = os.path.join(self.pictures, folder, name)
            if os.path.isfile(file):
                return file
        looked = " or ".join(str(self.pictures / folder) for folder in inside or ("",))
        why = f"there is no picture {one_line(name)} in {looked} (--data.pictures DIR)"
        return self.lacks(os.path.join(*inside[:1], name), why)

    def lacks(self, name: str, why: str, where: str = "") -> str:
        """Count a picture that is not there; what stands for it in `AnnotatedLine.pictures`."""
        if not self.missing:
            self.why, self.where = why, where
        self.missing.add(name_key(name))
        return ""


def find_file(directory: Path, *names: str, layout: str) -> Path:
    """The first of some files that is there.

    Raises:
        DataError: none is; says what the set looks like.
    """
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise DataError(f"{directory} has no {' or '.join(names)}: expected {layout}")


def place_in_file(file: Path, start: int, size: int) -> str:
    """A picture that is a part of a file, in the way of `AnnotatedLine.pictures`."""
    return f"{file}\0{start}\0{size}"


def read_place(picture: str) -> bytes:
    """The bytes of a picture, a file or a part of one.

    Raises:
        OSError: it cannot be read.
    """
    path, *part = picture.split("\0")
    with open(path, "rb") as file:
        if not part:
            return file.read()
        file.seek(int(part[0]))
        return file.read(int(part[1]))


def box_in_shares(box: Sequence[Any], size: Sequence[int], *, corners: bool = False) -> Place:
    """A box in pixels as shares of the sides.

    Args:
        box: x, y, width, height; or x0, y0, x1, y1 where these are corners.
        size: width and height of the picture.
        corners: see `box`.

    Raises:
        ValueError: it is none, has no area, or lies outside of the picture.

    Example:
        >>> box_in_shares([10, 20, 20, 20], (100, 50))
        (0.4, 0.1, 0.8, 0.3)
    """
    try:
        x0, y0, x1, y1 = (float(number) for number in box)
        width, height = (int(side) for side in size)
    except (TypeError, ValueError):
        raise ValueError(f"has a box {one_line(box)}: expected four numbers") from None
    if not corners:
        x1, y1 = x0 + x1, y0 + y1
    if min(width, height) < 1:
        raise ValueError(f"has a picture of {width} x {height} pixels")
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"has a box {one_line(box)} without area")
    slack = SLACK_PIXELS
    inside = x0 < width and y0 < height and x1 > 0 and y1 > 0
    if not inside or min(x0, y0) < -slack or x1 > width + slack or y1 > height + slack:
        raise ValueError(
            f"has a box {one_line(box)} that leaves its picture of {width} x {height} pixels"
        )
    clip = lambda number, side: min(max(number / side, 0.0), 1.0)
    return clip(y0, height), clip(x0, width), clip(y1, height), clip(x1, width)


def entry_error(file: Path, entry: str, why: Exception) -> DataError:
    """What is wrong with an entry of a file: what a ValueError says, or that its form is."""
    said = (
        why if isinstance(why, ValueError) else f"is not as published: {type(why).__name__} {why}"
    )
    return DataError(f"{file.name}, entry {entry}: {one_line(said)}")
