"""NLVR2 (Suhr et al. 2019): is a sentence true of two photographs?

    data/train.json, data/dev.json, data/test1.json    {"identifier": "dev-850-0-0", ...} a line
    images/train/85/train-10171-0-img0.png, dev/dev-850-0-img0.png, test1/test1-0-0-img0.png

The two are shown as one picture, side by side, each half as wide. Sentences stand with four pairs
of photographs each: `sentence` says which belong together.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.published.fields import field
from crossattn.data.published.json_stream import json_lines
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    entry_error,
    find_file,
)

__all__ = ["read_nlvr2"]

LAYOUT = "data/train.json, data/dev.json, data/test1.json and the folders of images"
PARTS = {"train": "train", "dev": "validation", "test1": "test"}
LABELS = ("true", "false")


def read_nlvr2(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every sentence with its pair of photographs."""
    del data
    for part, split in PARTS.items():
        names = (f"data/{part}.json", f"nlvr2/data/{part}.json", f"{part}.json")
        there = [name for name in names if (folders.directory / name).is_file()]
        if split == "train" or there:
            yield from _judged(find_file(folders.directory, *names, layout=LAYOUT), split, folders)


def _judged(file: Path, split: str, folders: Folders) -> Iterator[AnnotatedLine]:
    part = file.stem
    for entry, value in json_lines(file):
        try:
            first, number, pair, sentence = field(value, "identifier", str).split("-")
            folder = str(value.get("directory", ""))
            inside = [
                f"images/{part}/{folder}",
                f"{part}/{folder}",
                f"images/{part}",
                part,
                "images",
            ]
            pictures = tuple(
                folders.picture(f"{first}-{number}-{pair}-img{side}.png", *inside)
                for side in (0, 1)
            )
            answer = str(value["label"]).lower()
            if answer not in LABELS:
                raise ValueError(f"has the label {answer}, expected True or False")
            text = field(value, "sentence", str)
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        same = f"{first}-{number}-{sentence}"
        where = f"{file.name}, line {entry}"
        yield AnnotatedLine(split, pictures, text, answer, sentence=same, where=where)
