"""Masks of phrases: exactly which pixels show what a text names.

A mask is a PNG file of the size of its picture with a number for each pixel, of a palette or grey;
`masks/17.png#3` is the region of the number 3 in it, `masks/17.png` that of all numbers but 0.
"""

import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from crossattn.data.canvas import Canvas
from crossattn.data.folder.table import BadLines, is_within, parse_json
from crossattn.data.orientation import Sides
from crossattn.data.pictures import decode_numbers
from crossattn.data.words import split_words
from crossattn.shapes import Bool, UInt8

__all__ = ["Masked", "PhraseMask", "parse_masks", "read_masks", "squeeze"]

MOST = 255
# Reading that takes longer than this shows its progress.
PATIENCE_SECONDS = 3.0


class PhraseMask(NamedTuple):
    """The words whose region it is, the file within the folder, and the number; 0 for all."""

    phrase: tuple[str, ...]
    file: str
    number: int


class Masked(NamedTuple):
    """What masks of a line are about: its number, its picture, width and height of that."""

    line: int
    masks: tuple[PhraseMask, ...]
    size: tuple[int, int]


def parse_masks(value: Any) -> list[PhraseMask]:
    """The masks of a line: {"red ring": "masks/17.png#3"}, or a list of such texts for a phrase.

    Raises:
        ValueError: it is nothing of the kind.

    Example:
        >>> parse_masks({"Red ring": "masks/1.png#3"})
        [PhraseMask(phrase=('red', 'ring'), file='masks/1.png', number=3)]
    """
    if isinstance(value, str):  # a field of a csv file
        value = parse_json(value)
    if not isinstance(value, dict):
        raise ValueError(f'masks takes {{"red ring": "masks/17.png#3"}}, got {reprlib.repr(value)}')
    return [mask for phrase, where in value.items() for mask in _masks(phrase, where)]


def _masks(phrase: str, where: Any) -> Iterator[PhraseMask]:
    words = tuple(split_words(phrase))
    if not words:
        raise ValueError(f"a mask is of a word or a phrase, got {reprlib.repr(phrase)}")
    places = where if isinstance(where, list) else [where]
    if not places:
        raise ValueError(f"the mask of {phrase!r} takes a file, got an empty list")
    for place in places:
        if not isinstance(place, str):
            raise ValueError(
                f"the mask of {phrase!r} takes a file like masks/17.png#3, got "
                f"{reprlib.repr(place)}"
            )
        file, sign, digits = place.partition("#")
        number = int(digits) if digits.isascii() and digits.isdecimal() else 0
        if not file.strip() or (sign and not 1 <= number <= MOST):
            raise ValueError(
                f"the mask {place!r} of {phrase!r} is no file with a number of 1 to {MOST}, like "
                "masks/17.png#3"
            )
        if not is_within(file):
            raise ValueError(f"the path {file} leads out of the folder")
        yield PhraseMask(words, os.path.normpath(file), number)


Regions = Mapping[tuple[str, int], Bool[np.ndarray, "size size"]]


def read_masks(directory: Path, lines: Iterable[Masked], canvas: Canvas, bad: BadLines) -> Regions:
    """Every region that lines name, by file and number, on the canvas of the pictures.

    What cannot be read, or does not fit its picture, is collected by line.
    """
    named: dict[str, list[Masked]] = {}
    for line in lines:
        for file in dict.fromkeys(mask.file for mask in line.masks):
            named.setdefault(file, []).append(line)
    found: dict[tuple[str, int], np.ndarray] = {}
    for file, own in tqdm(named.items(), desc="reading masks", delay=PATIENCE_SECONDS):
        try:
            numbers = _read(directory, file)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            bad.add(own[0].line, f"{file} {why}")
            continue
        there = set(np.unique(numbers).tolist()) - {0}
        for line in own:
            try:
                for mask in line.masks:
                    if mask.file != file:
                        continue
                    _check(mask, there, numbers.shape[::-1], line.size)
                    if (file, mask.number) not in found:
                        found[file, mask.number] = _placed(_region(numbers, mask.number), canvas)
            except ValueError as error:
                bad.add(line.line, error)
    return found


def _read(directory: Path, file: str) -> UInt8[np.ndarray, "H W"]:
    path = directory / file
    if not path.is_file():
        raise ValueError(f"is no file in {directory}")
    return decode_numbers(path.read_bytes())


def _check(
    mask: PhraseMask, there: set[int], size: tuple[int, ...], wanted: tuple[int, int]
) -> None:
    """Make sure that a mask fits its picture and has what is named."""
    if size != wanted:
        raise ValueError(
            f"the mask {mask.file} has {size[0]} x {size[1]} pixels, its picture "
            f"{wanted[0]} x {wanted[1]}"
        )
    if not there or (mask.number and mask.number not in there):
        has = f"it has {', '.join(map(str, sorted(there)))}" if there else "all of it is 0"
        raise ValueError(f"{mask.file} has no region {mask.number or 'at all'}: {has}")


def _region(numbers: UInt8[np.ndarray, "H W"], number: int) -> Bool[np.ndarray, "H W"]:
    return numbers == number if number else numbers > 0


def _placed(region: Bool[np.ndarray, "H W"], canvas: Canvas) -> Bool[np.ndarray, "size size"]:
    width, height = canvas.fit(region.shape[::-1])
    found = np.zeros((canvas.side, canvas.side), bool)
    found[:height, :width] = squeeze(region, (width, height))
    return found


def squeeze(region: Bool[np.ndarray, "H W"], size: Sides) -> Bool[np.ndarray, "h w"]:
    """A region in pixels of this width and height: those of which it covers half or more.

    What is so thin that it covers half of none keeps those of which it covers most.

    Example:
        >>> line = np.zeros((8, 8), bool)
        >>> line[:, 1] = True
        >>> squeeze(line, (2, 2)).tolist()
        [[True, False], [True, False]]
    """
    if region.shape == size[::-1]:
        return region
    whole = Image.fromarray(region.astype(np.float32))
    share = np.asarray(whole.resize(size, Image.Resampling.BOX))
    return share >= min(0.5, float(share.max())) - 1e-6
