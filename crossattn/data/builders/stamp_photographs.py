"""Which of Tux Paint's stamps are photographs of one nameable thing.

The package does not mark photographs: it has drawings, letters and coins as well. They are chosen
by folder (those below hold photographs, cartoons are in folders of their own) and by what can be
counted: an alpha channel, a size, a shape that fills its box, many colours.
"""

import functools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from crossattn.data.builders.stamp_words import LANGUAGES, Named
from crossattn.data.errors import DataError

__all__ = ["Thing", "cut_out", "find_grounds", "find_things"]

THINGS = (
    *("animals/amphibians", "animals/birds", "animals/fish", "animals/insects", "animals/lizards"),
    *(
        "animals/mammals",
        "animals/mammals/apes",
        "animals/mammals/aquatic",
        "animals/mammals/bears",
    ),
    *("animals/mammals/bovines", "animals/mammals/camel", "animals/mammals/cats"),
    *("animals/mammals/deer", "animals/mammals/dogs", "animals/mammals/equines"),
    *("animals/mammals/rodents", "animals/marsupials", "animals/shellfish", "food/fruit"),
    *("food/nuts", "food/vegetables", "hobbies", "hobbies/music/percussion"),
    *("hobbies/music/string", "household", "household/dishes", "household/tools", "sports"),
    *("vehicles/auto", "vehicles/emergency"),
)
GROUNDS = ("plants/flowers", "plants/trees")
# Pixels of a side, the longer side over the shorter one, the filled share of the box.
LEAST_SIDE, LONGEST, LEAST_FILLED = 40, 2.5, 0.3
# Colours of 5 bits a channel, of the pixels of a square of this side: drawings have few.
LEAST_COLOURS, COUNTED = 120, 128
MOST_WORDS = 3
# From this value of the alpha channel on a pixel belongs to the thing.
OPAQUE = 128


class Thing(NamedTuple):
    """Something with a name, and its photographs."""

    named: Named
    files: tuple[Path, ...]


def find_things(stamps: Path, language: str) -> list[Thing]:
    """All things that have a photograph and a plain name in a language, by name.

    Raises:
        DataError: there are none.
    """
    found: dict[Named, list[Path]] = {}
    for file in _files(stamps, THINGS):
        called = _called(file, language)
        if called and is_photograph(file):
            found.setdefault(Named(called.split(" ", 1)[1], called), []).append(file)
    if not found:
        raise DataError(f"{stamps} has no photograph of a thing with a name in {language}")
    return [Thing(named, tuple(found[named])) for named in sorted(found)]


def find_grounds(stamps: Path) -> list[Path]:
    """Photographs of plants, whose middle can be a ground; none of them shows a thing."""
    return [file for file in _files(stamps, GROUNDS) if is_photograph(file)]


def _files(stamps: Path, folders: tuple[str, ...]) -> list[Path]:
    return [file for name in folders for file in sorted((stamps / name).glob("*.png"))]


def _called(file: Path, language: str) -> str:
    """The name of a stamp with its article, in lower case; empty where it is no plain name."""
    try:
        lines = file.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    if language == "en":
        said = lines[0] if lines else ""
    else:
        start = f"{language}.utf8="
        said = next((line[len(start) :] for line in lines if line.startswith(start)), "")
    articles = "|".join(LANGUAGES[language].articles)
    more = f"(?: [^\\W\\d_]+){{1,{MOST_WORDS}}}"
    plain = re.fullmatch(f"((?:{articles}){more})\\.?", said.strip().lower())
    return plain[1] if plain else ""


def is_photograph(file: Path) -> bool:
    """Whether what can be counted of a stamp is as of a photograph of one thing."""
    with Image.open(file) as opened:
        if opened.mode not in ("RGBA", "P") or not opened.has_transparency_data:
            return False
    thing = cut_out(file)
    if thing is None:
        return False
    short, long = sorted(thing.size)
    if short < LEAST_SIDE or long > LONGEST * short:
        return False
    values = np.asarray(thing.resize((COUNTED, COUNTED)))
    opaque = values[..., 3] >= OPAQUE
    colours = np.unique(values[opaque][:, :3] >> 3, axis=0)
    return bool(opaque.mean() >= LEAST_FILLED and len(colours) >= LEAST_COLOURS)


@functools.lru_cache(maxsize=512)
def cut_out(file: Path) -> Image.Image | None:
    """A stamp in RGBA, cut to the box of its opaque pixels; None where it has none.

    Raises:
        DataError: it cannot be read.
    """
    try:
        with Image.open(file, formats=["PNG"]) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    box = picture.getchannel("A").point([255 * (value >= OPAQUE) for value in range(256)]).getbbox()
    return picture.crop(box) if box else None
