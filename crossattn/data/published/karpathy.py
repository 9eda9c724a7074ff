"""Captions in the division of Karpathy and Fei-Fei (2015), by which retrieval is reported.

    dataset_coco.json    {"images": [{"filepath": "val2014", "filename": ..., "split": "test",
                          "sentences": [{"raw": "A man ..."}, ...]}, ...]}
    train2014/COCO_train2014_000000000009.jpg, val2014/ (COCO); flickr30k-images/ (Flickr30k)

Of COCO "restval" is trained on too. What is not trained on has the first five captions of each
picture, as the protocol counts them: 5,000 pictures of COCO and 1,000 of Flickr30k are the test.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError
from crossattn.data.published.fields import field
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import MALFORMED, AnnotatedLine, Folders, entry_error

__all__ = ["read_karpathy"]

LAYOUT = "dataset_coco.json, dataset_flickr30k.json or dataset_flickr8k.json"
SPLITS = {"train": "train", "restval": "train", "val": "validation", "test": "test"}
# Folders of pictures whose entries name none.
IMAGES = ("flickr30k-images", "flickr30k_images", "Flicker8k_Dataset", "images", "")
CAPTIONS = 5


def read_karpathy(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every caption that is learnt, and five of each picture that is not."""
    del data
    file = _file(folders.directory)
    for entry, value in json_entries(file, "images"):
        where = f"{file.name}, entry {entry}"
        try:
            own = field(value, "split", str)
            if own not in SPLITS:
                raise ValueError(f"has split {own}, expected {', '.join(SPLITS)}")
            inside: tuple[str, ...] = IMAGES
            if "filepath" in value:
                part = field(value, "filepath", str)
                inside = (part, f"images/{part}", "images", "")
            picture = folders.picture(field(value, "filename", str), *inside)
            said = [field(one, "raw", str).strip() for one in field(value, "sentences", list)]
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        split = SPLITS[own]
        for text in said if split == "train" else said[:CAPTIONS]:
            yield AnnotatedLine(split, (picture,), text, where=where)


def _file(directory: Path) -> Path:
    """The one file of a division in a folder."""
    found = sorted(directory.glob("dataset_*.json"))
    if len(found) != 1:
        has = f"has {len(found)} files dataset_*.json" if found else "has no dataset_*.json"
        raise DataError(f"{directory} {has}: expected one, {LAYOUT}")
    return found[0]
