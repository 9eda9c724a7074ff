"""WebDataset: tar files of samples, whose files have one name and several endings.

    train-000000.tar    00017.jpg  00017.txt (a caption)  00017.json (captions, question, answer)

The shards are read once for their texts; of pictures it is kept where in a shard they lie.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.lines import AnnotatedLine, Folders, place_in_file
from crossattn.data.published.rows import find_text_columns, row_lines, split_said_by

__all__ = ["read_webdataset"]

PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm")
TEXTS = ("txt", "caption", "text")
# A text or an object of a sample is no larger.
MOST_BYTES = 2**24
# Two empty blocks.
END = b"\0" * 1024


def read_webdataset(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every text of all shards, in the folder or one below it; their names say the split."""
    shards = sorted(folders.directory.glob("*.tar")) + sorted(folders.directory.glob("*/*.tar"))
    if not shards:
        raise DataError(f"{folders.directory} has no .tar files: expected shards of a WebDataset")
    for shard in shards:
        split = split_said_by(shard.stem)
        if split == "train" and shard.parent != folders.directory:
            split = split_said_by(shard.parent.name)
        for key, parts in _samples(shard):
            where = f"{shard.name}, sample {key}"
            try:
                yield from _lines(data, folders, shard, parts, split, where)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: {one_line(error)}") from None


def _lines(
    data: Any, folders: Folders, shard: Path, parts: dict[str, Any], split: str, where: str
) -> Iterator[AnnotatedLine]:
    pictures = [ending for ending in parts if ending in PICTURES]
    row = dict(parts.get("json", {}))
    row |= {ending: parts[ending] for ending in TEXTS if ending in parts}
    if not row:
        raise ValueError(f"has no text, of {', '.join(parts)}")
    if pictures:
        picture = place_in_file(shard, *parts[pictures[0]])
    else:
        picture = folders.lacks(where, f"has no picture, of {', '.join(parts)}", where)
    columns = find_text_columns(row, data, where)
    yield from row_lines(row, columns, picture, split, where)


def _samples(shard: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Neighbouring files of one name: a picture by its place, texts and objects by their content.

    Raises:
        DataError: the shard is damaged; names the sample before.
    """
    key = ""
    parts: dict[str, Any] = {}
    try:
        size = _whole(shard)
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                if member.offset_data + member.size > size:
                    raise EOFError("it ends within a file")
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if (own := f"{folder}/{stem}" if folder else stem) != key:
                    if parts:
                        yield key, parts
                    key, parts = own, {}
                parts[ending.lower()] = _content(tar, member, ending.lower())
            _check_end(shard, tar.offset)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(f"{shard} is damaged after sample {key!r}: {one_line(error)}") from None
    except ValueError as error:
        raise DataError(f"{shard.name}, sample {key}: {one_line(error)}") from None
    if parts:
        yield key, parts


def _check_end(shard: Path, start: int) -> None:
    """Raise an EOFError where a damaged header, not the mark of the end, ended the reading."""
    with shard.open("rb") as file:
        file.seek(start)
        if any(file.read(tarfile.BLOCKSIZE)):
            raise EOFError(f"its header at byte {start} is damaged")


def _whole(shard: Path) -> int:
    """The size of a shard that has the mark of its end, which a cut one lacks.

    Raises:
        EOFError: it has none.
    """
    with shard.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(END)))
        if file.read() != END:
            raise EOFError("it ends without the mark of its end")
    return size


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> Any:
    if ending in PICTURES:
        return member.offset_data, member.size
    if ending != "json" and ending not in TEXTS:
        return None
    if member.size > MOST_BYTES:
        raise ValueError(f"its {ending} has {member.size:,} bytes")
    file = tar.extractfile(member)
    assert file is not None
    text = file.read().decode("utf-8")
    if ending != "json":
        return text
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"its json is no object: {one_line(found)}")
    return found
