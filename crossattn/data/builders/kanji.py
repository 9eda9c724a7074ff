"""`kanji`: characters and their parts, each left, right, at the top or at the bottom.

Which pixels are strokes of which part is known. Characters of the test are none of training. Some
parts are never seen in one of their positions in training; the split `pairs` has the characters
with these.
"""

import dataclasses
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crossattn.data.builders.builder import Builder, BuildSettings, Package
from crossattn.data.builders.kanji_characters import (
    Character,
    hold_out,
    keep_frequent,
    read_characters,
)
from crossattn.data.builders.picture_folder import PictureFolder
from crossattn.data.builders.strokes import draw_strokes
from crossattn.data.dataset import CELL
from crossattn.data.errors import DataError
from crossattn.fields import positive

__all__ = ["KANJI", "KanjiSettings", "draw_character"]

# Units of a side of KanjiVG's square.
SQUARE = 109.0
# Of the picture: how large characters are; widths of strokes in units of the square.
SMALLEST, LARGEST = 0.8, 1.0
THINNEST, THICKEST = 3.0, 6.0
# A pixel belongs to the part that covers most of it, from this share on.
COVERED = 0.4
SHARE = 0.1
WHERE = {"left": "on the left", "right": "on the right", "top": "at the top"}
WHERE |= {"bottom": "at the bottom"}


@dataclasses.dataclass(frozen=True)
class KanjiSettings(BuildSettings):
    """Settings of `kanji`."""

    evaluation_images: int = 250
    """Number of pictures of each of validation, test and pairs."""
    image_size: int = 64
    """Side of a picture in pixels; a multiple of 8."""
    parts: int = 60
    """Number of different parts that texts name, the most frequent ones."""

    def __post_init__(self):
        super().__post_init__()
        positive("", evaluation_images=self.evaluation_images, parts=self.parts)
        if self.image_size < 2 * CELL or self.image_size % CELL:
            raise ValueError(
                f"image_size is a multiple of {CELL} from {2 * CELL} on, got {self.image_size}"
            )


def write_kanji(folder: Path, directory: Path, settings: KanjiSettings) -> str:
    """Write the set into an empty folder."""
    characters = keep_frequent(read_characters(folder), settings.parts)
    held = hold_out(characters)
    draw = np.random.default_rng(settings.seed)
    chosen = _divided(draw, characters, held)
    named = [part.element for one in chosen["train"] for part in one.parts]
    elements = sorted({part.element for one in characters for part in one.parts})
    written = PictureFolder(directory)
    plan = [
        (split, one) for split, own in chosen.items() for one in _cycle(draw, own, split, settings)
    ]
    for split, one in tqdm(plan, desc="drawing characters", delay=3.0):
        pixels, regions = draw_character(draw, one, settings.image_size)
        asked = [number for number, part in enumerate(one.parts)
                 if split != "pairs" or (part.element, part.position) in held]  # fmt: skip
        written.add(split, pixels, regions, _say(draw, one, asked, named, split))
    about = (
        f"{sum(written.counts.values()):,} pictures of "
        f"{len({one.sign for _, one in plan}):,} characters with {len(elements)} parts"
    )
    (directory / "README.txt").write_text(_readme(about, elements, held), encoding="utf-8")
    return about


def _divided(
    draw: np.random.Generator, characters: Sequence[Character], held: set[tuple[str, str]]
) -> dict[str, list[Character]]:
    """Characters by the part of the data that they are in; a tenth each for validation and test."""
    new = lambda one: any((part.element, part.position) in held for part in one.parts)
    known = [one for one in characters if not new(one)]
    order = [known[number] for number in draw.permutation(len(known))]
    some = int(SHARE * len(order))
    chosen = {
        "train": order[2 * some :],
        "validation": order[:some],
        "test": order[some : 2 * some],
        "pairs": [one for one in characters if new(one)],
    }
    if empty := [name for name, own in chosen.items() if not own]:
        raise DataError(
            f"{len(characters)} characters are too few: none is left for {' and '.join(empty)}"
        )
    return chosen


def _cycle(
    draw: np.random.Generator, own: Sequence[Character], split: str, settings: KanjiSettings
) -> list[Character]:
    """As many characters as a split has pictures: all in turn, each time in another order."""
    count = settings.images if split == "train" else settings.evaluation_images
    rounds = -(-count // len(own))
    return [own[one] for _ in range(rounds) for one in draw.permutation(len(own))][:count]


def draw_character(
    draw: np.random.Generator, character: Character, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """A character of some size, place, width and shade, and its parts as regions; both uint8.

    Returns:
        Pixels (size, size, 3), and regions (size, size): o + 1 for part o, 0 for all else.
    """
    scale = size * float(draw.uniform(SMALLEST, LARGEST)) / SQUARE
    corner = draw.uniform(0, size - SQUARE * scale, 2)
    width = float(draw.uniform(THINNEST, THICKEST)) * scale
    strokes = [stroke * scale + corner for stroke in character.strokes]
    ink, paper = int(draw.integers(0, 90)), int(draw.integers(170, 256))
    covered = draw_strokes(strokes, size, width)
    grey = np.rint(paper + (ink - paper) * covered).astype(np.uint8)
    shares = [
        draw_strokes([strokes[number] for number in part.strokes], size, width)
        for part in character.parts
    ]
    most = np.stack([np.full((size, size), COVERED), *shares]).argmax(axis=0)
    return np.repeat(grey[..., None], 3, axis=-1), most.astype(np.uint8)


def _say(
    draw: np.random.Generator,
    character: Character,
    asked: Sequence[int],
    named: Sequence[str],
    split: str,
) -> list[tuple[dict[str, Any], dict[str, list[int]]]]:
    """A caption of all parts, and questions about some, with the regions of phrases."""
    parts = character.parts
    told = " and ".join(f"{part.element} {WHERE[part.position]}" for part in parts)
    regions = {name: [number] for number, part in enumerate(parts, 1) for name in part[:2]}
    texts: list[tuple[dict[str, Any], dict[str, list[int]]]] = [({"caption": told}, regions)]
    for number in asked:
        element, position, _ = parts[number]
        mine = {element: [number + 1], position: [number + 1]}
        what = {"question": f"which part is {WHERE[position]}?", "answer": element}
        found = {"question": f"where is {element} ?", "answer": position}
        texts += [(what, mine), (found, mine)]
    if split != "pairs":
        number = int(draw.integers(len(parts)))
        there = {part.element for part in parts}
        # As often as they are parts, so that a part does not tell the answer.
        absent = [element for element in named if element not in there]
        yes = draw.random() < 0.5
        element = parts[number].element if yes else absent[int(draw.integers(len(absent)))]
        line = {"question": f"is there {element} ?", "answer": "yes" if yes else "no"}
        texts.append((line, {element: [number + 1]} if yes else {}))
    # Not read by the source, for who wants to know.
    return [({"character": character.sign, **columns}, own) for columns, own in texts]


def _readme(about: str, elements: Sequence[str], held: set[tuple[str, str]]) -> str:
    pairs = ", ".join(f"{element} {position}" for element, position in sorted(held))
    return (
        f"{about}.\n\nDrawn from the strokes of KanjiVG (see LICENCES.txt). Parts: "
        f"{' '.join(elements)}\n\nNever in training, and what the split pairs is about: {pairs}\n"
    )


def _installed() -> Path | None:
    try:
        return Path(str(metadata.distribution("kanjivg").locate_file("kanji")))
    except metadata.PackageNotFoundError:
        return None


def _licences(folder: Path) -> str:
    own = sorted(folder.parent.glob("kanjivg-*.dist-info/licenses/COPYING"))
    text = own[0].read_text(encoding="utf-8") if own else ""
    return (
        "These pictures are drawn from the strokes of KanjiVG, copyright Ulrich Apel, under the "
        "Creative Commons\nAttribution-Share Alike 3.0 licence, and so are they. "
        f"https://kanjivg.tagaini.net\n\n{text}"
    )


KANJI = Builder(
    "kanji",
    "characters and their parts (KanjiVG, CC-BY-SA 3.0), exact masks, held-out pairs",
    Package("the package kanjivg", "pip install kanjivg", "kanji", "?????.svg", _installed),
    write_kanji,
    _licences,
    KanjiSettings,
)
