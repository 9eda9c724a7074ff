"""`stamps`: scenes of one to three real cut-out photographs, each in one of four places.

What stands where is known to the pixel. Each thing is never seen in one of the four places in
training; the split `pairs` shows it there, and asks about it.
"""

import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

from crossattn.data.builders.builder import Builder, BuildSettings, Package
from crossattn.data.builders.picture_folder import PictureFolder
from crossattn.data.builders.stamp_photographs import Thing, find_grounds, find_things
from crossattn.data.builders.stamp_scenes import (
    PLACES,
    compose,
    held_out_place,
    is_new,
    place_things,
)
from crossattn.data.builders.stamp_words import LANGUAGES, say_scene
from crossattn.data.dataset import CELL
from crossattn.data.errors import DataError
from crossattn.fields import positive

__all__ = ["STAMPS", "StampSettings"]

INSTALLED = Path("/usr/share/tuxpaint/stamps")
EVALUATED = ("validation", "test", "pairs")


@dataclasses.dataclass(frozen=True)
class StampSettings(BuildSettings):
    """Settings of `stamps`."""

    evaluation_images: int = 250
    """Number of pictures of each of validation, test and pairs."""
    image_size: int = 64
    """Side of a picture in pixels; a multiple of 16."""
    things: int = 24
    """Number of different things, drawn from all that there are."""
    language: str = "en"
    """Language of captions and questions: en, de, fr, es, it or nl."""

    def __post_init__(self):
        super().__post_init__()
        positive("", evaluation_images=self.evaluation_images)
        if self.image_size < 2 * CELL or self.image_size % (2 * CELL):
            raise ValueError(f"image_size is a multiple of {2 * CELL}, got {self.image_size}")
        if self.things < PLACES:
            raise ValueError(f"things must be at least {PLACES}, got {self.things}")
        if self.language not in LANGUAGES:
            raise ValueError(f"language takes {', '.join(LANGUAGES)}, got {self.language!r}")


def write_stamps(stamps: Path, directory: Path, settings: StampSettings) -> str:
    """Write the set into an empty folder."""
    every = find_things(stamps, settings.language)
    if len(every) < settings.things:
        raise DataError(
            f"there are {len(every)} things with a name in {settings.language}: give --things "
            f"{len(every)} or fewer"
        )
    grounds = find_grounds(stamps)
    draw = np.random.default_rng(settings.seed)
    chosen = [every[one] for one in draw.permutation(len(every))[: settings.things]]
    names = [thing.named for thing in chosen]
    folder = PictureFolder(directory)
    splits = {"train": settings.images, **dict.fromkeys(EVALUATED, settings.evaluation_images)}
    plan = [name for name, count in splits.items() for _ in range(count)]
    for split in tqdm(plan, desc="composing scenes", delay=3.0):
        placed = place_things(draw, settings.things, held_out=split == "pairs")
        pixels, regions = compose(draw, placed, chosen, grounds, settings.image_size)
        texts = say_scene(
            draw, placed, names, settings.language, about=next(filter(is_new, placed), None)
        )
        folder.add(split, pixels, regions, texts)
    photographs = sum(len(thing.files) for thing in chosen)
    about = (
        f"{sum(folder.counts.values()):,} scenes of {photographs} photographs of "
        f"{len(chosen)} things"
    )
    (directory / "README.txt").write_text(
        _readme(about, chosen, stamps), encoding="utf-8", newline="\n"
    )
    return about


def _readme(about: str, things: list[Thing], stamps: Path) -> str:
    listed = "".join(
        f"{thing.named.name}: {', '.join(str(file.relative_to(stamps)) for file in thing.files)}; "
        f"never in place {held_out_place(number) + 1} in training\n"
        for number, thing in enumerate(things)
    )
    return (
        f"{about}.\n\nPlaces are 1 upper left, 2 upper right, 3 lower left, 4 lower right. The "
        "split pairs shows\neach thing in the place where training never does. Masks number the "
        "things of a picture.\n\nPhotographs, from the stamps of Tux Paint (see LICENCES.txt):\n\n"
        f"{listed}"
    )


def _licences(stamps: Path) -> str:
    """What the set is under, and the package's own file where it lies beside the stamps."""
    own = stamps.parent.parent / "doc/tuxpaint-stamps-default/copyright"
    text = own.read_text(encoding="utf-8") if own.is_file() else ""
    return (
        "These scenes are composed of photographs of Tux Paint's stamps (tuxpaint-stamps-default), "
        "GNU GPL version 2 or later;\nwhat is made of them is under the same licence. "
        f"https://tuxpaint.org\n\n{text}"
    )


STAMPS = Builder(
    "stamps",
    "scenes of real cut-out photographs (Tux Paint, GPL-2), exact masks, held-out pairs",
    Package(
        "Debian's tuxpaint-stamps-default",
        "apt-get install tuxpaint-stamps-default",
        str(INSTALLED.relative_to("/")),
        "animals/birds/*.png",
        lambda: INSTALLED if INSTALLED.is_dir() else None,
    ),
    write_stamps,
    _licences,
    StampSettings,
)
