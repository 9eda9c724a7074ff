"""COCO captions (Lin et al. 2014, Chen et al. 2015): about five captions of each picture.

annotations/captions_train2017.json    {"images": [...], "annotations": [...]}
train2017/000000000009.jpg
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.published.fields import field, identity, look_up, spool_entries
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    entry_error,
    find_file,
)
from crossattn.data.published.spool import Spool

__all__ = ["read_coco_captions", "spool_images"]

LAYOUT = "annotations/captions_train2017.json (or 2014) and the folder train2017"
PARTS = {"train": "train", "val": "validation"}


def read_coco_captions(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every caption of both parts."""
    del data
    names = [f"annotations/captions_train{year}.json" for year in (2017, 2014)]
    train = find_file(folders.directory, *names, layout=LAYOUT)
    year = train.stem[-4:]
    for part, split in PARTS.items():
        file = train.with_name(f"captions_{part}{year}.json")
        if file.is_file():
            yield from _captions(file, split, folders, f"{part}{year}")


def _captions(file: Path, split: str, folders: Folders, part: str) -> Iterator[AnnotatedLine]:
    images = spool_images(file)
    for entry, value in json_entries(file, "annotations"):
        try:
            name = look_up(images, value, "image_id", "the list of images")[0]
            picture = folders.picture(name, part, f"images/{part}", "images", "")
            said = field(value, "caption", str).strip()
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        yield AnnotatedLine(split, (picture,), said, where=f"{file.name}, entry {entry}")


def spool_images(file: Path) -> Spool:
    """File name, width and height of each image of a COCO file, by its number.

    Raises:
        DataError: names the entry that is none.
    """
    return spool_entries(file, "images", _image)


def _image(entry: str, value: Any) -> tuple[str, list[Any]]:
    del entry
    sides = [field(value, name, int) for name in ("width", "height")]
    return identity(value, "id"), [field(value, "file_name", str), *sides]
