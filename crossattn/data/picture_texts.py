"""Examples of records: pictures decoded and resized, texts as tokens, boxes as regions."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from crossattn.data.canvas import Canvas, shown_windows
from crossattn.data.dataset import CELL
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.data.language import CONTENT, GROUPS, KINDS, Rows
from crossattn.data.pictures import decode
from crossattn.data.records import ImageRecord
from crossattn.data.regions import window_coverage
from crossattn.data.sources import FlippedData
from crossattn.data.survey import Survey, normalised
from crossattn.fields import positive
from crossattn.shapes import Bool, Float, UInt8

__all__ = [
    "Geometry",
    "ImageRecords",
    "NativeData",
    "ResizedData",
    "TokenizedData",
    "areas",
    "read_examples",
    "record_arrays",
]

# A patch belongs to a region from this share on; boxes can be smaller than a patch.
COVERED = 0.1


@dataclasses.dataclass(frozen=True)
class ResizedData(FlippedData):
    """Settings of a source of pictures of any size."""

    image_size: int = 64
    """Side of the square that pictures are squeezed into, in pixels; a multiple of 8."""

    def __post_init__(self):
        super().__post_init__()
        positive("data.", image_size=self.image_size)
        if self.image_size % CELL:
            raise ValueError(f"data.image_size {self.image_size} is not a multiple of {CELL}")


@dataclasses.dataclass(frozen=True)
class TokenizedData(ResizedData):
    """Settings of a source whose texts a published tokenizer can cut."""

    tokenizer: str = ""
    """File of the package tokenizers, or a folder with tokenizer.json, that cuts words into pieces;
    whole words are tokens when not given."""


@dataclasses.dataclass(frozen=True)
class NativeData(TokenizedData):
    """Settings of a source whose pictures can keep their aspect ratio."""

    resolution: Literal["square", "native"] = "square"
    """square squeezes pictures into image_size x image_size pixels; native keeps their aspect
    ratio: they are scaled down until they fit, and the patches left over are hidden."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("flip", "features"):
            if getattr(self, name, None) and self.resolution == "native":
                raise ValueError(f"data.{name} is for data.resolution square: set one of them back")

    @property
    def canvas(self) -> Canvas:
        """On which pictures are shown."""
        return Canvas(self.image_size, native=self.resolution == "native")


@runtime_checkable
class ImageRecords(Protocol):
    """Records by their number."""

    def __getitem__(self, index: int) -> ImageRecord: ...

    def where(self, index: int) -> str:
        """Spell where a record lies, for messages."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Pictures of `size` x `size` pixels, seen through windows of `window` x `window` cells."""

    size: int = 64
    window: int = 1

    def __post_init__(self):
        if self.size % CELL or self.size // CELL < self.window:
            raise ValueError(
                f"pictures of {self.size} pixels a side are no multiple of the cell of {CELL}, "
                f"or smaller than a window of {self.window} cells"
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        side = self.size // CELL - self.window + 1
        return side, side


def areas(
    record: ImageRecord, labels: Sequence[int] | np.ndarray, size: int
) -> Bool[np.ndarray, "O size size"]:
    """Pixels that boxes and masks of each label cover together; none for a label of -1.

    A box covers every pixel that it touches, so that a small one does not vanish.
    """
    inside = np.zeros((len(labels), size, size), bool)
    for label, box in zip(record.labels, record.boxes, strict=True):
        for thing in np.flatnonzero(np.asarray(labels) == label):
            top, left = np.floor(np.clip(box[:2], 0, 1) * size).astype(int)
            bottom, right = np.ceil(np.clip(box[2:], 0, 1) * size).astype(int)
            inside[thing, top:bottom, left:right] = True
    for label, mask in record.masks:
        inside[np.asarray(labels) == label] |= mask
    return inside


def record_arrays(
    split: ImageRecords, index: int, survey: Survey, geometry: Geometry
) -> dict[str, np.ndarray]:
    """Read one record with all its texts: the fields of `Rows`, its pixels, areas and coverage.

    Raises:
        DataError: names the file and the record that cannot be read.
    """
    record = split[index]
    rows = survey.language.rows(record)
    pixels = record.image
    try:
        if not isinstance(pixels, np.ndarray):
            pixels = decode(pixels, geometry.size)
    except DataError as error:
        raise DataError(f"{split.where(index)} {error}") from None
    inside = areas(record, rows.labels, geometry.size)
    hidden = {}
    if record.cells is not None:
        inside &= record.cells.repeat(CELL, axis=0).repeat(CELL, axis=1)
        hidden["shown"] = shown_windows(record.cells, geometry.window)
    coverage = window_coverage(inside, cell=CELL, window=geometry.window)
    return {
        **hidden,
        **{field.name: getattr(rows, field.name) for field in dataclasses.fields(Rows)},
        "places": _places(record, rows.labels),
        "images": pixels,
        "areas": inside,
        "coverage": coverage * hidden.get("shown", True),
    }


def read_examples(
    split: ImageRecords, chosen: Sequence[int] | np.ndarray, survey: Survey, geometry: Geometry
) -> tuple[Examples, np.ndarray]:
    """Hold the chosen records of a split in memory, those without a text left out.

    Returns:
        The examples, and where their objects are: (N, size, size) uint8, 0 ground, o + 1 for
        object o, the smaller one where two overlap.

    Raises:
        DataError: a record cannot be read, or no record has a text.
    """
    found, asked, exact = [], [], False
    for index in chosen:
        record = split[int(index)]
        if len(record):
            found.append(record_arrays(split, int(index), survey, geometry))
            asked += normalised(record)
            # Which words a box is about is said, and not found by what they spell.
            exact |= any(record.spans or ())
    if not found:
        at = f"from {split.where(int(chosen[0]))} on, no" if len(chosen) else "no"
        raise DataError(f"{at} record holds a text to evaluate on")
    counts = [len(one["tokens"]) for one in found]
    rows = ("tokens", "target", "grounded", "group", "kind", "answer")
    held = Examples(
        images=np.stack([one["images"] for one in found]),
        coverage=np.stack([one["coverage"] for one in found]),
        image=np.repeat(np.arange(len(found), dtype=np.int32), counts),
        vocabulary=survey.language.vocabulary,
        kinds=KINDS,
        groups=GROUPS,
        content=CONTENT,
        grid=geometry.grid,
        chance=survey.chance(asked),
        covered=COVERED,
        places=np.stack([one["places"] for one in found]) if exact else None,
        shown=np.stack([one["shown"] for one in found]) if "shown" in found[0] else None,
        **_judged(found),
        **{name: np.concatenate([one[name] for one in found]) for name in rows},
    )
    return held, np.stack([_painted(one["areas"]) for one in found])


def _places(record: ImageRecord, labels: np.ndarray) -> Float[np.ndarray, "O 4"]:
    """The box of each label that has one alone, as shares of the sides; else NaN."""
    places = np.full((len(labels), 4), np.nan, np.float32)
    for thing, label in enumerate(labels):
        own = [
            box for box, other in zip(record.boxes, record.labels, strict=True) if other == label
        ]
        if len(own) == 1:
            places[thing] = own[0]
    return places


def _judged(found: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """What the evaluation of a published set reads beside the texts, where there is any."""
    joined = {
        "answers": np.concatenate([one["answers"] for one in found]),
        "sentence": np.concatenate([one["sentence"] for one in found]),
    }
    return {
        name: values if values.size and values.any() else None for name, values in joined.items()
    }


def _painted(inside: Bool[np.ndarray, "O size size"]) -> UInt8[np.ndarray, "size size"]:
    """Areas as one map: o + 1 for area o, small ones over large ones, so that none vanishes."""
    painted = np.zeros(inside.shape[1:], np.uint8)
    for thing in np.argsort(-inside.sum((1, 2)), kind="stable"):
        painted[inside[thing]] = thing + 1
    return painted
