"""Sets of pairs that a model of captions is judged by: Winoground, SugarCrepe, VALSE.

* Winoground (Thrush et al. 2022): two captions of the same words, two pictures;
  data/examples.jsonl or examples.jsonl beside the folder images.
* SugarCrepe (Hsieh et al. 2023): a caption and one that is wrong, of a COCO picture of val2017;
  data/add_att.json and six more.
* VALSE (Parcalabescu et al. 2022): a caption and a foil, which two of three people judged as such;
  data/existence.json and others, the pictures in folders of their own.
"""

from collections.abc import Iterator
from pathlib import Path

from crossattn.data.published.fields import field
from crossattn.data.published.json_stream import json_entries, json_lines
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    entry_error,
    find_file,
)

__all__ = ["PAIRS", "read_sugarcrepe", "read_valse", "read_winoground"]

# Where the pictures of COCO lie, as its authors name the folder in their command.
IMAGES = ("val2017", "images/val2017", "data/coco/images/val2017", "coco/images/val2017")
# People who found the caption true and the foil not, of three, in the items that VALSE counts.
VOTES = 2


def read_winoground(folders: Folders) -> Iterator[AnnotatedLine]:
    """Four lines of each pair: both captions of the first picture, both of the second."""
    tables = ("data/examples.jsonl", "examples.jsonl")
    file = find_file(folders.directory, *tables, layout="data/examples.jsonl and the folder images")
    for entry, value in json_lines(file):
        try:
            names = [f"{field(value, f'image_{one}', str)}.png" for one in (0, 1)]
            inside = ("images", "data/images", "")
            pictures = [folders.picture(name, *inside) for name in names]
            texts = [field(value, f"caption_{one}", str) for one in (0, 1)]
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        where = f"{file.name}, line {entry}"
        for one, picture in enumerate(pictures):
            # Where one of the two is missing, all four lines are left out.
            shown = (picture,) if all(pictures) else ("",)
            for text in texts:
                yield AnnotatedLine(
                    "swap", shown, text, sentence=f"{entry} image_{one}", where=where
                )


def read_sugarcrepe(folders: Folders) -> Iterator[AnnotatedLine]:
    """Two lines of each item, the true caption first."""
    for file in _tables(folders.directory, "data/add_att.json, data/swap_obj.json ..."):
        for entry, value in json_entries(file):
            try:
                inside = (*IMAGES, "images", "")
                picture = folders.picture(field(value, "filename", str), *inside)
                texts = (field(value, "caption", str), field(value, "negative_caption", str))
            except MALFORMED as error:
                raise entry_error(file, entry, error) from None
            yield from _contrast("sugarcrepe", picture, texts, file, entry)


def read_valse(folders: Folders) -> Iterator[AnnotatedLine]:
    """Two lines of each item that people found valid, the caption first."""
    for file in _tables(folders.directory, "data/existence.json, data/plurals.json ..."):
        for entry, value in json_entries(file):
            try:
                if int((value.get("mturk") or {}).get("caption", VOTES)) < VOTES:
                    continue
                names = (str(value.get("dataset", "")), file.stem)
                inside = ("images", *(f"images/{name}" for name in names), *names, "")
                picture = folders.picture(field(value, "image_file", str), *inside)
                texts = (field(value, "caption", str), field(value, "foil", str))
            except MALFORMED as error:
                raise entry_error(file, entry, error) from None
            yield from _contrast("valse", picture, texts, file, entry)


PAIRS = {"winoground": read_winoground, "sugarcrepe": read_sugarcrepe, "valse": read_valse}


def _tables(directory: Path, layout: str) -> list[Path]:
    inside = directory / "data" if (directory / "data").is_dir() else directory
    tables = sorted(inside.glob("*.json"))
    if not tables:
        find_file(directory, "data/*.json", layout=layout)
    return tables


def _contrast(
    split: str, picture: str, texts: tuple[str, str], file: Path, entry: str
) -> Iterator[AnnotatedLine]:
    where = f"{file.name}, entry {entry}"
    for text in texts:
        yield AnnotatedLine(
            split, (picture,), text, sentence=f"{file.stem} {entry}", kind=file.stem, where=where
        )
