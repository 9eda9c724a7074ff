"""Parts of the characters of KanjiVG: what each is, and its strokes in each character."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from crossattn.data.builders.strokes import parse_path
from crossattn.data.errors import DataError, one_line

__all__ = ["Glyph", "keep_frequent", "read_glyphs"]

# Where whole parts stand.
PLACES = ("left", "right", "top", "bottom")
# The unified ideographs: other files are letters and signs.
FIRST, LAST = 0x4E00, 0x9FFF
G, PATH = "{http://www.w3.org/2000/svg}g", "{http://www.w3.org/2000/svg}path"


class Glyph(NamedTuple):
    """A part as one character has it: what it is, of which character, and its strokes.

    The strokes are points (P, 2) in the square of the character, 109 units wide.
    """

    element: str
    sign: str
    strokes: tuple[np.ndarray, ...]


def read_glyphs(folder: Path) -> list[Glyph]:
    """The parts of all ideographs that have parts in positions, in the order of their codes.

    Raises:
        DataError: a file is damaged; names it.
    """
    found: list[Glyph] = []
    for file in tqdm(sorted(folder.glob("?????.svg")), desc="reading characters", delay=3.0):
        code = int(file.stem, 16)
        if FIRST <= code <= LAST:
            try:
                found += _read(chr(code), file.read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError) as error:
                raise DataError(f"{file} cannot be read: {one_line(error)}") from None
    return found


def _read(sign: str, text: str) -> Iterator[Glyph]:
    groups = ElementTree.fromstring(text).iter(G)
    next(groups, None)
    whole = next(groups, None)
    if whole is None:
        raise ValueError("it has no group of strokes")
    for group in whole:
        # Files of one release spell their namespace in two ways.
        said = {name.rpartition("}")[2]: value for name, value in group.attrib.items()}
        # What is there in two pieces has no one place.
        placed = said.get("position") in PLACES and "part" not in said
        if group.tag == G and placed and said.get("element"):
            strokes = tuple(parse_path(path.get("d", "")) for path in group.iter(PATH))
            yield Glyph(said["element"], sign, strokes)


def keep_frequent(glyphs: Sequence[Glyph], count: int) -> dict[str, list[Glyph]]:
    """The most frequent parts, in the order of their codes, and each as all characters have it.

    Raises:
        DataError: there are fewer parts.
    """
    every: dict[str, list[Glyph]] = {}
    for glyph in glyphs:
        every.setdefault(glyph.element, []).append(glyph)
    if len(every) < count:
        raise DataError(f"there are {len(every)} different parts: give --parts fewer")
    # Equally frequent ones in the order of their codes.
    kept = sorted(every, key=lambda element: (-len(every[element]), element))[:count]
    return {element: every[element] for element in sorted(kept)}
