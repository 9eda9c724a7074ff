"""`kanji`: four parts of characters, one in each quarter of a picture.

Strokes are those of real characters (KanjiVG); which parts stand together, and where, is drawn:
in real characters a part tells its position, and one of two parts tells the other's. Which pixels
are strokes of which part is known. Strokes of the test are from characters that give training none.
Some parts are never seen in one of the positions in training; the split `pairs` shows them there,
and asks about them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from crossattn.data.builders.builder import Builder, BuildSettings, Package
from crossattn.data.builders.kanji_characters import Glyph, keep_frequent, read_glyphs
from crossattn.data.builders.kanji_pictures import (
    POSITIONS,
    PlacedPart,
    draw_parts,
    hold_out,
    place_parts,
)
from crossattn.data.builders.picture_folder import PictureFolder
from crossattn.data.dataset import CELL
from crossattn.data.errors import DataError
from crossattn.fields import positive

__all__ = ["KANJI", "KanjiSettings"]

EVALUATED = ("validation", "test", "pairs")
# Of the characters: from a tenth each are the strokes of validation, and of test and pairs.
TENTH = 10


@dataclasses.dataclass(frozen=True)
class KanjiSettings(BuildSettings):
    """Settings of `kanji`."""

    evaluation_images: int = 250
    """Number of pictures of each of validation, test and pairs."""
    image_size: int = 64
    """Side of a picture in pixels; a multiple of 8."""
    parts: int = 24
    """Number of different parts that texts name, the most frequent ones."""

    def __post_init__(self):
        super().__post_init__()
        positive("", evaluation_images=self.evaluation_images)
        if self.parts <= len(POSITIONS):
            raise ValueError(f"parts must be over {len(POSITIONS)}, got {self.parts}")
        if self.image_size < 2 * CELL or self.image_size % CELL:
            raise ValueError(
                f"image_size is a multiple of {CELL} from {2 * CELL} on, got {self.image_size}"
            )


def write_kanji(folder: Path, directory: Path, settings: KanjiSettings) -> str:
    """Write the set into an empty folder."""
    every = keep_frequent(read_glyphs(folder), settings.parts)
    elements = list(every)
    held = hold_out(elements)
    draw = np.random.default_rng(settings.seed)
    own = _divided(draw, every)
    written = PictureFolder(directory)
    splits = {"train": settings.images, **dict.fromkeys(EVALUATED, settings.evaluation_images)}
    plan = [name for name, count in splits.items() for _ in range(count)]
    for split in tqdm(plan, desc="drawing characters", delay=3.0):
        placed = place_parts(draw, elements, held, new=split == "pairs")
        choices = [own[split][part.element] for part in placed]
        glyphs = [choice[int(draw.integers(len(choice)))] for choice in choices]
        strokes = [glyph.strokes for glyph in glyphs]
        pixels, regions = draw_parts(draw, strokes, settings.image_size)
        asked = [n for n, part in enumerate(placed) if split != "pairs" or part in held]
        # Not read by the source, for who wants to know.
        signs = {"characters": "".join(glyph.sign for glyph in glyphs)}
        texts = _say(draw, placed, asked, elements, split)
        written.add(split, pixels, regions, [(signs | line, masks) for line, masks in texts])
    characters = len({glyph.sign for glyphs in every.values() for glyph in glyphs})
    about = (
        f"{sum(written.counts.values()):,} pictures of four of {len(elements)} parts each, "
        f"from the strokes of {characters:,} characters"
    )
    (directory / "README.txt").write_text(_readme(about, elements, held), encoding="utf-8")
    return about


def _divided(
    draw: np.random.Generator, every: Mapping[str, Sequence[Glyph]]
) -> dict[str, dict[str, list[Glyph]]]:
    """Strokes by the part of the data that they are in: no character gives some to two of them."""
    signs = sorted({glyph.sign for glyphs in every.values() for glyph in glyphs})
    number = {signs[one]: n % TENTH for n, one in enumerate(draw.permutation(len(signs)))}
    uses = {"train": range(2, TENTH), "validation": [0], "test": [1], "pairs": [1]}
    found = {
        split: {
            element: [glyph for glyph in glyphs if number[glyph.sign] in mine]
            for element, glyphs in every.items()
        }
        for split, mine in uses.items()
    }
    for split, own in found.items():
        if rare := [element for element, glyphs in own.items() if not glyphs]:
            raise DataError(
                f"{len(signs)} characters are too few: none with {rare[0]} is left for {split}; "
                "give --parts fewer"
            )
    return found


def _say(
    draw: np.random.Generator,
    parts: Sequence[PlacedPart],
    asked: Sequence[int],
    elements: Sequence[str],
    split: str,
) -> list[tuple[dict[str, Any], dict[str, list[int]]]]:
    """A caption of all parts, and questions about some, with the regions of phrases."""
    told = " and ".join(f"{part.element} in the {part.position}" for part in parts)
    regions = {name: [number] for number, part in enumerate(parts, 1) for name in part}
    texts: list[tuple[dict[str, Any], dict[str, list[int]]]] = [({"caption": told}, regions)]
    for number in asked:
        element, position = parts[number]
        mine = {element: [number + 1], position: [number + 1]}
        what = {"question": f"which part is in the {position}?", "answer": element}
        found = {"question": f"where is {element} ?", "answer": position}
        texts += [(what, mine), (found, mine)]
    if split != "pairs":
        number = int(draw.integers(len(parts)))
        there = {part.element for part in parts}
        absent = [element for element in elements if element not in there]
        yes = draw.random() < 0.5
        element = parts[number].element if yes else absent[int(draw.integers(len(absent)))]
        line = {"question": f"is there {element} ?", "answer": "yes" if yes else "no"}
        texts.append((line, {element: [number + 1]} if yes else {}))
    return texts


def _readme(about: str, elements: Sequence[str], held: set[PlacedPart]) -> str:
    pairs = ", ".join(f"{element} {position}" for element, position in sorted(held))
    return (
        f"{about}.\n\nStrokes are real, of KanjiVG (see LICENCES.txt), and which parts stand "
        "together is drawn: most\npictures are no character that there is. Parts: "
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
    "parts of characters put together (KanjiVG, CC-BY-SA 3.0), exact masks, held-out pairs",
    Package("the package kanjivg", "pip install kanjivg", "kanji", "?????.svg", _installed),
    write_kanji,
    _licences,
    KanjiSettings,
    edition=2,
)
