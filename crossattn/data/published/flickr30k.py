"""Flickr30k Entities (Plummer et al. 2015): five captions of each picture, phrases with boxes.

Sentences/36979.txt      [/EN#1/people Two men] in [/EN#2/clothing hats] .
Annotations/36979.xml    <object><name>1</name><bndbox>...</bndbox></object>
train.txt, val.txt, test.txt    a number on each line
flickr30k-images/36979.jpg
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from crossattn.data.errors import DataError
from crossattn.data.published.lines import (
    AnnotatedLine,
    Folders,
    Place,
    Region,
    box_in_shares,
    entry_error,
    find_file,
)
from crossattn.data.words import split_words

__all__ = ["parse_sentence", "read_flickr30k_entities"]

LAYOUT = "Sentences, Annotations, train.txt and the folder flickr30k-images"
PARTS = {"train": "train", "val": "validation", "test": "test"}
PHRASE = re.compile(r"\[/EN#(\d+)((?:/\w+)+) ([^\[\]]+)\]")
IMAGES = ("flickr30k-images", "flickr30k_images", "images", "")


def read_flickr30k_entities(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every caption of the three parts."""
    del data
    find_file(folders.directory, "train.txt", layout=LAYOUT)
    for part, split in PARTS.items():
        file = folders.directory / f"{part}.txt"
        if file.is_file():
            for entry, name in enumerate(_text(file).split(), 1):
                yield from _captions(file, str(entry), name, split, folders)


def _captions(
    file: Path, entry: str, name: str, split: str, folders: Folders
) -> Iterator[AnnotatedLine]:
    try:
        picture = folders.picture(f"{name}.jpg", *IMAGES)
    except ValueError as error:
        raise entry_error(file, entry, error) from None
    size, boxes = _annotations(folders.directory / "Annotations" / f"{name}.xml")
    sentences = folders.directory / "Sentences" / f"{name}.txt"
    for number, line in enumerate(_text(sentences).rstrip().splitlines(), 1):
        where = f"{sentences.name}, line {number}"
        try:
            text, phrases = parse_sentence(line)
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        regions = tuple(
            Region(start, stop, tuple(boxes[one])) for start, stop, one in phrases if one in boxes
        )
        yield AnnotatedLine(split, (picture,), text, regions=regions, size=size, where=where)


def parse_sentence(line: str) -> tuple[str, list[tuple[int, int, str]]]:
    """A sentence without its marks, and for each phrase its first word, its end and its chain.

    Raises:
        ValueError: a mark is damaged.

    Example:
        >>> parse_sentence("[/EN#1/people Two men] wear [/EN#2/clothing hats] .")
        ('Two men wear hats .', [(0, 2, '1'), (3, 4, '2')])
    """
    text, at, phrases = "", 0, []
    for match in PHRASE.finditer(line):
        text += line[at : match.start()]
        start = len(split_words(text))
        text += match[3]
        phrases.append((start, len(split_words(text)), match[1]))
        at = match.end()
    text += line[at:]
    if "[/EN" in text:
        raise ValueError("has a damaged phrase: expected [/EN#NUMBER/TYPE WORDS]")
    return text.strip(), phrases


def _annotations(file: Path) -> tuple[tuple[int, int], dict[str, list[Place]]]:
    """The size of a picture, and the boxes of each chain of phrases."""
    text = _text(file)
    try:
        if "<!" in text:
            raise ValueError("declares entities, which are not read")
        root = ElementTree.fromstring(text)
        size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
        boxes: dict[str, list[Place]] = {}
        for thing in root.iter("object"):
            for box in thing.iter("bndbox"):
                # Pixels count from 1; the last one belongs to the box.
                x0, y0, x1, y1 = (
                    int(box.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax")
                )
                place = box_in_shares((x0 - 1, y0 - 1, x1, y1), size, corners=True)
                for name in thing.findall("name"):
                    boxes.setdefault((name.text or "").strip(), []).append(place)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file.name}: {error}") from None
    return size, boxes


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{file.name} is no text of UTF-8") from None
