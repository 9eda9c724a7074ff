"""The pictures of a folder, and their lines as records."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from crossattn.data.canvas import Canvas, Shown
from crossattn.data.folder.boxes import Phrases, answer_phrases, in_shares
from crossattn.data.folder.lines import PictureLine
from crossattn.data.folder.masks import PATIENCE_SECONDS, Regions
from crossattn.data.folder.table import BadLines
from crossattn.data.pictures import decode_sized
from crossattn.data.records import ImageRecord

__all__ = ["Picture", "check_lines", "gather_record", "read_pictures"]

# What a phrase is about: boxes in shares of the sides, and names of masks.
Places = tuple[tuple[float, float, float, float] | tuple[str, int], ...]


class Picture(NamedTuple):
    """A picture as a model reads it.

    Attributes:
        shown: on the canvas.
        size: width and height of the file, upright.
        hash: of the file's bytes, 64 bits.
    """

    shown: Shown
    size: tuple[int, int]
    hash: int


def read_pictures(
    directory: Path, lines: Iterable[PictureLine], canvas: Canvas, bad: BadLines
) -> dict[str, Picture]:
    """Every picture that lines name, by its path; each is read once.

    What cannot be read is collected, at the first line that names it.
    """
    named: dict[str, int] = {}
    for line in lines:
        named.setdefault(line.image, line.number)
    found = {}
    for path, number in tqdm(named.items(), desc="reading pictures", delay=PATIENCE_SECONDS):
        file = directory / path
        try:
            if not file.is_file():
                bad.add(number, f"there is no picture {path} in {directory}")
                continue
            encoded = file.read_bytes()
            pixels, whole = decode_sized(encoded, canvas.fit)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            bad.add(number, f"{path} {why}")
            continue
        digest = hashlib.blake2b(encoded, digest_size=8).digest()
        found[path] = Picture(canvas.show([pixels]), whole, int.from_bytes(digest, "big"))
    return found


def check_lines(
    lines: Iterable[PictureLine], pictures: Mapping[str, Picture], form: str, bad: BadLines
) -> None:
    """Collect boxes that do not fit their pictures, and pictures that are in two splits."""
    first: dict[int, PictureLine] = {}
    for line in lines:
        picture = pictures.get(line.image)
        if picture is None:
            continue
        other = first.setdefault(picture.hash, line)
        if other.split != line.split:
            bad.add(
                line.number,
                f"{line.image} is in the split {line.split}, the same picture is in "
                f"{other.split} in {bad.unit} {other.number}",
            )
        try:
            for box in line.boxes:
                in_shares(box, form, picture.size)
        except ValueError as error:
            bad.add(line.number, error)


def gather_record(
    lines: Sequence[PictureLine], picture: Picture, form: str, regions: Regions
) -> ImageRecord:
    """All texts of one picture, each with the phrases that have regions on its own line.

    Boxes are shares of the picture, masks lie on the canvas.
    """
    numbers: dict[Places, int] = {}
    asked: list[tuple[tuple[str, str], Phrases]] = []
    told: list[tuple[str, Phrases]] = []
    for line in lines:
        places: dict[tuple[str, ...], Places] = {}
        for box in line.boxes:
            where = in_shares(box, form, picture.size)
            places[box.phrase] = (*places.get(box.phrase, ()), where)
        for mask in line.masks:
            named = (mask.file, mask.number)
            places[mask.phrase] = (*places.get(mask.phrase, ()), named)
        # The same boxes are one region, whatever it is called.
        own = {phrase: numbers.setdefault(where, len(numbers)) for phrase, where in places.items()}
        if line.question:
            phrases = answer_phrases(own, line.question, line.answer)
            asked.append(((line.question, line.answer), phrases))
        told += [(caption, own) for caption in line.captions]
    found = [(where, label) for region, label in numbers.items() for where in region]
    boxes = [(where, label) for where, label in found if len(where) == 4]
    return ImageRecord(
        picture.shown.pixels,
        [pair for pair, _ in asked],
        [caption for caption, _ in told],
        np.array([where for where, _ in boxes], np.float32).reshape(-1, 4),
        [label for _, label in boxes],
        [*(own for _, own in asked), *(own for _, own in told)],
        tuple((label, regions[where]) for where, label in found if len(where) == 2),
        cells=picture.shown.cells,
    )
