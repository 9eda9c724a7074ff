"""CLEVR (Johnson et al. 2017): questions about drawn scenes, with the program that answers them.

    questions/CLEVR_train_questions.json    {"questions": [{"program": [...], ...}]}
    scenes/CLEVR_train_scenes.json          {"scenes": [{"objects": [...], ...}]}
    images/train/CLEVR_train_000000.png

The answer to a question about one object ("what colour is the cube left of ...?") is about the
object that the program finds. Scenes give the centre of an object, its size and its distance: its
box is the square that a ball of this size fills, seen by the camera of the set.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossattn.data.published.fields import field, look_up, spool_entries
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    Place,
    Region,
    box_in_shares,
    entry_error,
    find_file,
)
from crossattn.data.published.spool import Spool
from crossattn.data.words import split_words

__all__ = ["answer_object", "object_place", "read_clevr"]

LAYOUT = "questions/CLEVR_train_questions.json, scenes and the folder images/train"
PARTS = {"train": "train", "val": "validation"}
SIZE = (480, 320)
# Focal length of the camera in pixels: 35 mm before a sensor 32 mm wide, 480 pixels across.
FOCAL = 480 * 35 / 32
RADIUS = {"large": 0.7, "small": 0.35}
ATTRIBUTES = ("size", "color", "material", "shape")


def read_clevr(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every question of the parts that have answers."""
    del data
    for part, split in PARTS.items():
        name = f"questions/CLEVR_{part}_questions.json"
        if split == "train":
            find_file(folders.directory, name, layout=LAYOUT)
        if (file := folders.directory / name).is_file():
            scenes = _scenes(folders.directory / f"scenes/CLEVR_{part}_scenes.json")
            for entry, value in json_entries(file, "questions"):
                where = f"{file.name}, entry {entry}"
                try:
                    name = field(value, "image_filename", str)
                    picture = folders.picture(name, f"images/{part}", part, "images")
                    text, answer = field(value, "question", str), field(value, "answer", str)
                    if not answer.strip():
                        raise ValueError("has an empty answer")
                    listed = "the file of scenes"
                    scene = look_up(scenes, value, "image_filename", listed) if len(scenes) else {}
                    regions = _regions(text, value.get("program") or [], scene)
                except MALFORMED as error:
                    raise entry_error(file, entry, error) from None
                yield AnnotatedLine(
                    split, (picture,), text, answer, regions, size=SIZE, where=where
                )


def _scenes(file: Path) -> Spool:
    return spool_entries(file, "scenes", _scene) if file.is_file() else Spool()


def _scene(entry: str, value: Any) -> tuple[str, dict[str, Any]]:
    del entry
    objects, sides = field(value, "objects", list), field(value, "relationships", dict)
    return field(value, "image_filename", str), {"objects": objects, "relationships": sides}


def _regions(text: str, program: Sequence[Any], scene: Mapping[str, Any]) -> tuple[Region, ...]:
    thing = answer_object(program, scene) if scene else None
    if thing is None:
        return ()
    end = len(split_words(text))
    return (Region(end, end + 1, (object_place(scene["objects"][thing]),)),)


def object_place(thing: Mapping[str, Any]) -> Place:
    """The square around an object's centre, from its size and its distance to the camera."""
    x, y, depth = (float(number) for number in thing["pixel_coords"])
    radius = FOCAL * RADIUS[thing["size"]] / depth
    left, top = max(x - radius, 0), max(y - radius, 0)
    right, bottom = min(x + radius, SIZE[0]), min(y + radius, SIZE[1])
    return box_in_shares((left, top, right, bottom), SIZE, corners=True)


def answer_object(program: Sequence[Any], scene: Mapping[str, Any]) -> int | None:
    """The object whose property a question asks for, found as its program finds it, or None.

    Raises:
        ValueError: the program does not find one object where it takes one.
    """
    objects, sides = scene["objects"], scene["relationships"]
    found: list[set[int]] = []
    for step in program:
        name = str(step.get("function", step.get("type")))
        of = [found[number] for number in step["inputs"]]
        verb, _, what = name.partition("_")
        value = str(step["value_inputs"][0]) if step.get("value_inputs") else ""
        if name == "scene":
            found.append(set(range(len(objects))))
        elif verb == "filter" and what in ATTRIBUTES:
            found.append({one for one in of[0] if objects[one][what] == value})
        elif name == "unique":
            found.append({_one(of[0])})
        elif name == "relate":
            found.append(set(sides[value][_one(of[0])]))
        elif verb == "same" and what in ATTRIBUTES:
            own = _one(of[0])
            same = {one for one, thing in enumerate(objects) if thing[what] == objects[own][what]}
            found.append(same - {own})
        elif name in ("union", "intersect"):
            found.append(of[0] | of[1] if name == "union" else of[0] & of[1])
        elif verb == "query" and what in ATTRIBUTES:
            # What is compared with another property is no answer.
            return _one(of[0]) if step is program[-1] else None
        else:
            return None
    return None


def _one(found: set[int]) -> int:
    if len(found) != 1:
        raise ValueError(f"has a program that finds {len(found)} objects where it takes one")
    return next(iter(found))
