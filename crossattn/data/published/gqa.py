"""GQA (Hudson and Manning 2019): questions whose words are about objects of a scene graph.

train_balanced_questions.json    {"02930152": {"imageId", "question", "answer", ...}}
train_sceneGraphs.json           {"2386621": {"width", "height", "objects": {...}}}
images/2386621.jpg
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
from crossattn.data.published.spool import Spool
from crossattn.data.words import split_words

__all__ = ["read_gqa"]

LAYOUT = "train_balanced_questions.json, train_sceneGraphs.json and the folder images"
PARTS = {"train": "train", "val": "validation", "testdev": "testdev"}
Regions = tuple[Region, ...]


def read_gqa(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every balanced question; those of testdev have no scene graphs."""
    del data
    for part, split in PARTS.items():
        name = f"{part}_balanced_questions.json"
        places = [folders.directory / inside / name for inside in ("", "questions")]
        if split == "train":
            find_file(folders.directory, name, f"questions/{name}", layout=LAYOUT)
        for file in [place for place in places if place.is_file()][:1]:
            yield from _asked(file, _graphs(folders.directory, part), split, folders)


def _graphs(directory: Path, part: str) -> Spool:
    """Size and objects of each picture."""
    for inside in ("", "sceneGraphs", "scene_graphs"):
        file = directory / inside / f"{part}_sceneGraphs.json"
        if file.is_file():
            return spool_entries(file, "", _graph)
    return Spool()


def _graph(entry: str, value: Any) -> tuple[str, list[Any]]:
    boxes = {
        number: [thing[name] for name in "xywh"]
        for number, thing in field(value, "objects", dict).items()
    }
    return entry, [field(value, "width", int), field(value, "height", int), boxes]


def _asked(file: Path, graphs: Spool, split: str, folders: Folders) -> Iterator[AnnotatedLine]:
    for entry, value in json_entries(file):
        try:
            picture = folders.picture(
                f"{identity(value, 'imageId')}.jpg", "images", "allImages/images", ""
            )
            text, answer = field(value, "question", str), field(value, "answer", str)
            if not answer.strip():
                raise ValueError("has an empty answer")
            size: tuple[int, int] | None = None
            regions: Regions = ()
            if len(graphs):
                width, height, boxes = look_up(graphs, value, "imageId", "its file of graphs")
                size = (width, height)
                regions = _regions(text, value.get("annotations") or {}, size, boxes)
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        where = f"{file.name}, entry {entry}"
        yield AnnotatedLine(split, (picture,), text, answer, regions, size=size, where=where)


def _regions(
    text: str, annotations: Mapping[str, Any], size: tuple[int, int], boxes: Mapping[str, Any]
) -> Regions:
    """Regions of words and of the answer, which annotations give as words: "4" or "4:6"."""
    words, spelt = text.split(), split_words(text)
    ends = [len(split_words(" ".join(words[:end]))) for end in range(len(words) + 1)]
    found = []
    for where, number in (annotations.get("question") or {}).items():
        first, _, end = str(where).partition(":")
        start, stop = int(first), int(end or int(first) + 1)
        if not 0 <= start < stop <= len(words):
            raise ValueError(f"has words {where} of a question of {len(words)}")
        place = box_in_shares(_box(boxes, number), size)
        begin, close = ends[start], ends[stop]
        # The question mark behind a word is no part of it.
        while close > begin + 1 and not spelt[close - 1][0].isalnum():
            close -= 1
        found.append(Region(begin, close, (place,)))
    about = [box_in_shares(_box(boxes, number), size)
             for number in (annotations.get("answer") or {}).values()]  # fmt: skip
    if about:
        found.append(Region(ends[-1], ends[-1] + 1, tuple(dict.fromkeys(about))))
    return tuple(found)


def _box(boxes: Mapping[str, Any], number: Any) -> Any:
    if str(number) not in boxes:
        raise ValueError(f"is about an object {number}, which its scene graph has not")
    return boxes[str(number)]
