"""RefCOCO, RefCOCO+ and RefCOCOg (Yu et al. 2016, Mao et al. 2016): expressions and their box.

refs(unc).p         a pickle of plain lists and dicts: nothing else in it is read
instances.json      {"images": [...], "annotations": [{"id": ..., "bbox": [...]}]}
train2014/COCO_train2014_000000000009.jpg
"""

import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.coco import spool_images
from crossattn.data.published.fields import field, identity, look_up, spool_entries
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    Region,
    box_in_shares,
    entry_error,
    find_file,
)
from crossattn.data.words import split_words

__all__ = ["read_plain_pickle", "read_refcoco"]

LAYOUT = "refs(unc).p (or the same as refs(unc).json), instances.json and the folder train2014"
SPLITS = {"train": "train", "val": "validation"} | dict.fromkeys(("test", "testA", "testB"), "test")
IMAGES = ("train2014", "images/train2014", "images", "../images/mscoco/images/train2014", "")


def read_refcoco(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every expression; all of its words are about the box."""
    stem = f"refs({data.split_by})"
    refs = find_file(folders.directory, f"{stem}.p", f"{stem}.json", layout=LAYOUT)
    instances = find_file(folders.directory, "instances.json", layout=LAYOUT)
    images, boxes = spool_images(instances), spool_entries(instances, "annotations", _box)
    parts = set()
    for entry, ref in _refs(refs):
        try:
            name, *size = look_up(images, ref, "image_id", "instances.json")
            image, box = look_up(boxes, ref, "ann_id", "instances.json")
            if image != identity(ref, "image_id"):
                raise ValueError(f"is about image {ref['image_id']}, its box about image {image}")
            place, own = box_in_shares(box, size), field(ref, "split", str)
            if own not in SPLITS:
                raise ValueError(f"has split {own}, expected {', '.join(SPLITS)}")
            picture, split = folders.picture(name, *IMAGES), SPLITS[own]
            said = [field(sentence, "sent", str) for sentence in field(ref, "sentences", list)]
        except MALFORMED as error:
            raise entry_error(refs, entry, error) from None
        parts.add(own)
        if split == "test" and data.test_part not in ("", own):
            continue
        for text in said:
            region = Region(0, len(split_words(text)), (place,))
            where = f"{refs.name}, entry {entry}"
            yield AnnotatedLine(
                split, (picture,), text, regions=(region,), size=(size[0], size[1]), where=where
            )
    if data.test_part and data.test_part not in parts:
        has = ", ".join(sorted(parts))
        raise DataError(f"--data.test-part {data.test_part}: {refs.name} has {has}")


def _box(entry: str, value: Any) -> tuple[str, list[Any]]:
    """The picture of an object, and its box."""
    del entry
    return identity(value, "id"), [identity(value, "image_id"), field(value, "bbox", list)]


def _refs(file: Path) -> Iterator[tuple[str, Any]]:
    if file.suffix == ".json":
        yield from json_entries(file)
        return
    try:
        found = read_plain_pickle(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DataError(f"{file.name} {error}") from None
    if not isinstance(found, list):
        raise DataError(f"{file.name} holds a {type(found).__name__}, expected a list")
    yield from ((str(number), ref) for number, ref in enumerate(found, 1))


def read_plain_pickle(data: bytes) -> Any:
    """What a pickle holds, of lists, dicts, texts and numbers alone.

    A pickle may name any function, and is a program that calls it: here no name is looked up. Texts
    of Python 2, which are bytes, are UTF-8, or else Latin-1.

    Raises:
        ValueError: it holds anything else, or is damaged.

    Example:
        >>> read_plain_pickle(pickle.dumps([{"ref_id": 1, "split": "train"}]))
        [{'ref_id': 1, 'split': 'train'}]
        >>> read_plain_pickle(pickle.dumps(print))
        Traceback (most recent call last):
          ...
        ValueError: is no pickle of plain data: it names builtins.print, which is not looked up
    """
    try:
        try:
            return _Plain(io.BytesIO(data), encoding="utf-8").load()
        except UnicodeDecodeError:
            return _Plain(io.BytesIO(data), encoding="latin-1").load()
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise ValueError(f"is no pickle of plain data: {one_line(error)}") from None


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it names {module}.{name}, which is not looked up")

    def persistent_load(self, pid: Any) -> Any:
        raise ValueError("it refers to data elsewhere")
