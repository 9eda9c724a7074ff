"""Characters of KanjiVG with the parts that stand left, right, at the top or at the bottom."""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from crossattn.data.builders.strokes import parse_path
from crossattn.data.errors import DataError, one_line

__all__ = [
    "POSITIONS",
    "Character",
    "CharacterPart",
    "hold_out",
    "keep_frequent",
    "read_characters",
]

POSITIONS = ("left", "right", "top", "bottom")
# The unified ideographs: other files are letters and signs.
FIRST, LAST = 0x4E00, 0x9FFF
# Characters of a pair of a part and a position: fewer are no pair of that part.
FEWEST = 5
G, PATH = "{http://www.w3.org/2000/svg}g", "{http://www.w3.org/2000/svg}path"


class CharacterPart(NamedTuple):
    """A part of a character: what it is, where it is, and which strokes it has, from 0 on."""

    element: str
    position: str
    strokes: tuple[int, ...]


class Character(NamedTuple):
    """A character, its strokes in a square of 109 units, and its parts."""

    sign: str
    strokes: tuple[np.ndarray, ...]
    parts: tuple[CharacterPart, ...]


def read_characters(folder: Path) -> list[Character]:
    """All ideographs that have parts in positions, in the order of their codes.

    Raises:
        DataError: a file is damaged; names it.
    """
    found = []
    for file in tqdm(sorted(folder.glob("?????.svg")), desc="reading characters", delay=3.0):
        code = int(file.stem, 16)
        if FIRST <= code <= LAST:
            try:
                character = _read(chr(code), file.read_text(encoding="utf-8"))
            except (OSError, ValueError, SyntaxError) as error:
                raise DataError(f"{file} cannot be read: {one_line(error)}") from None
            if character.parts:
                found.append(character)
    return found


def _read(sign: str, text: str) -> Character:
    groups = ElementTree.fromstring(text).iter(G)
    next(groups, None)
    whole = next(groups, None)
    if whole is None:
        raise ValueError("it has no group of strokes")
    paths = list(whole.iter(PATH))
    numbers = {id(path): number for number, path in enumerate(paths)}
    parts = list(_parts(whole, numbers))
    # What is there twice, or in two pieces, has no one place.
    elements = Counter(part.element for part in parts)
    positions = Counter(part.position for part in parts)
    single = [p for p in parts if elements[p.element] == 1 and positions[p.position] == 1]
    strokes = tuple(parse_path(path.get("d", "")) for path in paths)
    return Character(sign, strokes, tuple(single))


def _parts(whole: ElementTree.Element, numbers: dict[int, int]) -> Iterator[CharacterPart]:
    for group in whole:
        # Files of one release spell their namespace in two ways.
        said = {name.rpartition("}")[2]: value for name, value in group.attrib.items()}
        placed = said.get("position") in POSITIONS and "part" not in said
        if group.tag == G and placed and said.get("element"):
            own = tuple(numbers[id(path)] for path in group.iter(PATH))
            yield CharacterPart(said["element"], said["position"], own)


def keep_frequent(characters: Sequence[Character], count: int) -> list[Character]:
    """Characters with those of their parts that are among the most frequent; the others go.

    Raises:
        DataError: there are fewer parts.
    """
    frequency = Counter(part.element for one in characters for part in one.parts)
    if len(frequency) < count:
        raise DataError(f"there are {len(frequency)} different parts: give --parts fewer")
    # Equally frequent ones in the order of their codes.
    kept = set(sorted(frequency, key=lambda element: (-frequency[element], element))[:count])
    cut = [
        one._replace(parts=tuple(part for part in one.parts if part.element in kept))
        for one in characters
    ]
    return [one for one in cut if one.parts]


def hold_out(characters: Sequence[Character]) -> set[tuple[str, str]]:
    """Pairs of a part and a position that training lacks.

    Of every other part that is in several positions often enough, by frequency, it is the rarest
    of these.
    """
    pairs = Counter((part.element, part.position) for one in characters for part in one.parts)
    places: dict[str, dict[str, int]] = {}
    for (element, position), count in sorted(pairs.items()):
        if count >= FEWEST:
            places.setdefault(element, {})[position] = count
    several = [element for element, own in places.items() if len(own) > 1]
    several.sort(key=lambda element: (-sum(places[element].values()), element))
    return {(one, min(places[one], key=places[one].__getitem__)) for one in several[::2]}
