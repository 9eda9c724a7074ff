"""Pictures of one's own beside one file of texts, held in memory.

    pictures/cat.jpg
    pictures/captions.jsonl     {"image": "cat.jpg", "caption": "a red cat"}

docs/your_data.md has the formats of the file (jsonl, json, csv), its columns, boxes of words and
the rules by which pictures are split.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.encoded import with_encoder
from crossattn.data.errors import DataError
from crossattn.data.folder.about import about_folder, about_parts, unknown_words
from crossattn.data.folder.lines import ColumnNames, PictureLine, find_columns, parse_lines
from crossattn.data.folder.masks import Masked, Regions, read_masks
from crossattn.data.folder.pictures import Picture, check_lines, gather_record, read_pictures
from crossattn.data.folder.splits import by_column, by_share
from crossattn.data.folder.table import EXAMPLE, BadLines, find_table, read_rows
from crossattn.data.originals import Originals
from crossattn.data.picture_texts import Geometry, NativeData, read_examples, record_arrays
from crossattn.data.pictures import read_upright
from crossattn.data.records import ImageRecord
from crossattn.data.sources import EncodedData, Settings, Source
from crossattn.data.survey import Survey, Tally
from crossattn.data.tokenizer import read_tokenizer, with_tokenizer

__all__ = ["FOLDER", "FolderData"]


@dataclasses.dataclass(frozen=True)
class FolderData(NativeData, EncodedData):
    """Settings of `folder`."""

    images: int = 0
    """Number of training images at most; 0 means all."""
    evaluation_images: int = 0
    """Number of images in each evaluation split at most; 0 means all."""
    directory: str = ""
    """Folder of pictures and one .jsonl, .json or .csv file, see docs/your_data.md."""
    file: str = ""
    """The file of texts, where the folder has several."""
    box_format: Literal["pixels", "shares", "xywh"] = "pixels"
    """Numbers of a box: x0, y0, x1, y1 in pixels or in shares of the sides, or x, y, width, height
    in pixels."""
    image_column: str = ""
    """Column of the picture's path; image, file, file_name or filename when not given."""
    caption_column: str = ""
    """Column of the caption, or of a list of them; caption or text when not given."""
    question_column: str = ""
    """Column of the question; question when not given."""
    answer_column: str = ""
    """Column of the answer; answer when not given."""
    split_column: str = ""
    """Column that says train, validation or test; split when not given."""
    fingerprint: str = ""
    """Of the texts and pictures that a run learnt from: other ones are refused."""


def _load(settings: Settings) -> Dataset:
    data: FolderData = settings.data
    if not data.directory:
        raise DataError(
            "data.source folder reads a folder of pictures: type --data.directory DIR, in which a "
            f"file such as captions.jsonl has lines like {EXAMPLE}"
        )
    directory = Path(data.directory).expanduser()
    file = find_table(directory, data.file)
    bad = BadLines(file)
    rows = read_rows(file, bad)
    if not rows:
        bad.check()
        raise DataError(f"{file} has no lines: expected some like {EXAMPLE}")
    columns = find_columns(file, rows, _named(data))
    lines = parse_lines(rows, columns, bad)
    _check_form(file, lines, data.box_format)
    pictures = read_pictures(directory, lines, data.canvas, bad)
    check_lines(lines, pictures, data.box_format, bad)
    masked = [
        Masked(line.number, line.masks, pictures[line.image].size)
        for line in lines
        if line.masks and line.image in pictures
    ]
    regions = read_masks(directory, masked, data.canvas, bad)
    bad.check()
    lines = _wanted(file, lines, data.tasks)
    parts = _divided(lines, pictures, data.box_format, regions)
    fingerprint = with_tokenizer(_fingerprint(parts), data.tokenizer)
    fingerprint = with_encoder(fingerprint, data.features)
    if data.fingerprint not in ("", fingerprint):
        raise DataError(
            f"{file.name} or its pictures have changed, or this version reads them otherwise: the "
            f"fingerprint of {directory} is {fingerprint}, not {data.fingerprint}"
        )
    found = _dataset(data, settings.window, file, parts, len(pictures), columns.split)
    return dataclasses.replace(found, fingerprint=fingerprint)


def _named(data: FolderData) -> ColumnNames:
    return ColumnNames(
        data.image_column,
        data.caption_column,
        data.question_column,
        data.answer_column,
        data.split_column,
    )


def _check_form(file: Path, lines: Sequence[PictureLine], form: str) -> None:
    """Refuse boxes that are plainly shares, where pixels are asked for."""
    numbers = [number for line in lines for box in line.boxes for number in box.numbers]
    if numbers and form != "shares" and max(numbers) <= 1:
        raise DataError(
            f"{file.name}: all boxes lie within 0 to 1, which are shares of the sides and no "
            "pixels: type --data.box-format shares"
        )


def _wanted(file: Path, lines: Sequence[PictureLine], tasks: Sequence[str]) -> list[PictureLine]:
    """The lines with the texts that are to be learnt."""
    if "caption" not in tasks:
        lines = [dataclasses.replace(line, captions=()) for line in lines]
    if "question" not in tasks:
        lines = [dataclasses.replace(line, question="", answer="") for line in lines]
    found = [line for line in lines if line.texts]
    if not found:
        raise DataError(f"{file.name} has no text for data.tasks {' '.join(tasks)}")
    return found


class Told(NamedTuple):
    """A picture: its path, its file's hash, what is learnt of it, and its share of a canvas."""

    path: str
    hash: int
    record: ImageRecord
    share: tuple[float, float]

    @property
    def shown(self) -> ImageRecord:
        """The record with boxes on the canvas."""
        boxes = self.record.boxes * np.array(self.share * 2, np.float32)
        return dataclasses.replace(self.record, boxes=boxes)


Parts = dict[str, list[Told]]


def _divided(
    lines: Sequence[PictureLine], pictures: dict[str, Picture], form: str, regions: Regions
) -> Parts:
    """All that is said of each picture, by the part that it is in."""
    by_picture: dict[str, list[PictureLine]] = {}
    for line in lines:
        by_picture.setdefault(line.image, []).append(line)
    hashes = [pictures[path].hash for path in by_picture]
    named = [own[0].split for own in by_picture.values()]
    chosen = by_column(named, hashes) if any(named) else by_share(hashes)
    parts: Parts = {name: [] for name in ("train", "validation", "test", *sorted(set(chosen)))}
    for part, (path, own) in zip(chosen, by_picture.items(), strict=True):
        picture = pictures[path]
        record = gather_record(own, picture, form, regions)
        parts[part].append(Told(path, picture.hash, record, picture.shown.share))
    return parts


def _fingerprint(parts: Parts) -> str:
    """Eight letters that change when a text, the region of a word, a part or a picture changes.

    Regions are those that words have in the end: other rules of giving boxes to words show as well.
    """
    said: list[tuple[Any, ...]] = [
        (part, hash, one.questions, one.captions, one.boxes.tolist(), one.labels, one.phrases)
        for part, every in parts.items()
        for _, hash, one, _ in every
    ]
    masks = [one.record.masks for every in parts.values() for one in every]
    if any(masks):
        said += [(label, region.tobytes()) for own in masks for label, region in own]
    return hashlib.blake2b(repr(said).encode(), digest_size=4).hexdigest()


@dataclasses.dataclass(frozen=True)
class _Held:
    """Records that are held in memory."""

    records: list[ImageRecord]
    file: Path

    def __getitem__(self, index: int) -> ImageRecord:
        return self.records[index]

    def where(self, index: int) -> str:
        return f"{self.file}, picture {index}"


def _dataset(
    data: FolderData,
    window: int,
    file: Path,
    parts: Parts,
    there: int,
    split_column: str,
) -> Dataset:
    tally, held = Tally(tokenizer=read_tokenizer(data.tokenizer)), {}
    originals: dict[str, Originals] = {}
    for name, every in parts.items():
        limit = data.images if name == "train" else data.evaluation_images
        kept = every[: limit or None]
        for told in kept:
            tally.add(told.record, learnt=name == "train")
        held[name] = _Held([told.shown for told in kept], file)
        originals[name] = _originals(file.parent, kept)
    survey = tally.survey(range(len(held["train"].records)), {})
    geometry = Geometry(data.image_size, window)
    found, masks = {}, {}
    for name, one in held.items():
        found[name], masks[name] = read_examples(one, range(len(one.records)), survey, geometry)
    return Dataset(
        found["train"],
        {name: part for name, part in found.items() if name != "train"},
        main="test",
        # Also where features of an encoder take the place of the images.
        draw={name: part.images.__getitem__ for name, part in found.items()},
        outline={name: own.__getitem__ for name, own in masks.items()},
        originals=originals,
        areas={name: _areas(one, survey, geometry) for name, one in held.items()},
        notes=tuple(unknown_words(found["test"])),
        about=about_folder(
            file,
            there,
            found,
            split_column,
            region=_regions_named(parts),
            resized=data.canvas.about,
        ),
        parts_about=about_parts(found),
    )


def _originals(directory: Path, kept: Sequence[Told]) -> Originals:
    keys = np.array([one.hash for one in kept], np.uint64)
    return Originals(keys, lambda number: read_upright(directory / kept[number].path))


def _areas(held: _Held, survey: Survey, geometry: Geometry) -> Callable[[int], np.ndarray]:
    return lambda number: record_arrays(held, number, survey, geometry)["areas"]


def _regions_named(parts: Parts) -> str:
    """What regions of words are given by."""
    every = [one.record for own in parts.values() for one in own]
    kinds = {"boxes": any(map(len, (one.labels for one in every)))}
    kinds["masks"] = any(one.masks for one in every)
    return " or ".join(name for name, there in kinds.items() if there) or "boxes"


FOLDER = Source(
    "folder",
    _load,
    FolderData,
    image_encoders={"patch": 1, "window": 2, "conv": 1, "features": 2},
)
