"""Folders that `save_to_disk` of Hugging Face `datasets` leaves: tables in Arrow files.

    dataset_dict.json                      {"splits": ["train", "test"]}
    train/state.json                       {"_data_files": [{"filename": "data-....arrow"}]}
    train/data-00000-of-00001.arrow

Read with pyarrow alone. Files are mapped and not read; of pictures it is kept where they lie.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.lines import AnnotatedLine, Folders, place_in_file
from crossattn.data.published.rows import find_text_columns, row_lines, split_said_by

__all__ = ["read_arrow"]

LAYOUT = "a folder that save_to_disk of datasets wrote, with dataset_dict.json or state.json"


def read_arrow(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every text of all splits."""
    directory = folders.directory
    if (directory / "dataset_dict.json").is_file():
        names = _json(directory / "dataset_dict.json").get("splits", [])
        places = {str(name): directory / str(name) for name in names}
    elif (directory / "state.json").is_file():
        places = {directory.name: directory}
    else:
        raise DataError(
            f"{directory} has no dataset_dict.json and no state.json: expected {LAYOUT}"
        )
    for name, place in places.items():
        if "/" in name or name.startswith("."):
            raise DataError(f"{directory} names a split {one_line(name)}")
        split = split_said_by(name) if len(places) > 1 else "train"
        for file in _files(place):
            yield from _read(data, folders, file, split)


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise DataError(f"{file} holds no object")
    return found


def _files(place: Path) -> Iterator[Path]:
    for one in _json(place / "state.json").get("_data_files", []):
        name = str(one.get("filename", ""))
        if not name or Path(name).name != name or not (place / name).is_file():
            raise DataError(f"{place} has no file {one_line(name)}, which its state.json names")
        yield place / name


def _read(data: Any, folders: Folders, file: Path, split: str) -> Iterator[AnnotatedLine]:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise ModuleNotFoundError(
            "folders of datasets are read with the package pyarrow, which is not installed; type: "
            "pip install pyarrow",
            name=error.name,
        ) from None
    try:
        mapped = pyarrow.memory_map(str(file)).read_buffer()
        batches = iter(pyarrow.ipc.open_stream(mapped))
        row = 0
        for batch in batches:
            image = _image_column(batch.schema, data.image_column, file)
            names = [name for name in batch.schema.names if name != image]
            columns = find_text_columns(names, data, file.name)
            used = [one for one in (columns.caption, columns.question, columns.answer) if one]
            texts, pictures = batch.select(used), _Pictures(batch.column(image), mapped, file)
            for number in range(batch.num_rows):
                row += 1
                where = f"{file.name}, row {row}"
                try:
                    place, lacking = pictures.place(number)
                    picture = place or folders.lacks(where, lacking, where)
                    values = {name: texts.column(name)[number].as_py() for name in used}
                    yield from row_lines(values, columns, picture, split, where)
                except ValueError as error:
                    raise DataError(f"{where}: {one_line(error)}") from None
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} cannot be read: {one_line(error)}") from None


def _image_column(schema: Any, named: str, file: Path) -> str:
    """The column that holds the bytes of picture files, as the feature Image does."""
    import pyarrow

    if named and named not in schema.names:
        listed = ", ".join(schema.names)
        raise DataError(f"--data.image-column {named}: {file.name} has the columns {listed}")
    kinds = {name: schema.field(name).type for name in schema.names}
    found = [
        name
        for name, kind in kinds.items()
        if pyarrow.types.is_binary(kind)
        or (pyarrow.types.is_struct(kind) and kind.get_field_index("bytes") >= 0)
    ]
    if named or len(found) == 1:
        return named or found[0]
    listed = ", ".join(found or schema.names)
    raise DataError(
        f"{file.name} has {len(found)} columns of pictures, of {listed}: choose one with "
        "--data.image-column"
    )


class _Pictures:
    """Where in a mapped file the pictures of a batch lie."""

    def __init__(self, column: Any, mapped: Any, file: Path):
        import pyarrow

        self.file, self.whole = file, column
        is_struct = pyarrow.types.is_struct(column.type)
        self.bytes = column.field("bytes") if is_struct else column
        self.paths = column.field("path") if is_struct and "path" in _names(column.type) else None
        large = pyarrow.types.is_large_binary(self.bytes.type)
        _, ends, held = self.bytes.buffers()
        self.ends = np.frombuffer(ends, np.int64 if large else np.int32)[self.bytes.offset :]
        self.start = held.address - mapped.address if held is not None else 0
        if held is not None and not 0 <= self.start <= mapped.size - held.size:
            raise DataError(f"{file.name} is compressed, which is not read: save it without")

    def place(self, number: int) -> tuple[str, str]:
        """The place of a picture, or the file that it is in; or nothing, and why."""
        if self.whole[number].is_valid and self.bytes[number].is_valid:
            first, end = (int(one) for one in self.ends[number : number + 2])
            return place_in_file(self.file, self.start + first, end - first), ""
        path = self.paths[number].as_py() if self.paths is not None else None
        if not path:
            return "", "holds no picture"
        return (str(path), "") if Path(path).is_file() else ("", f"there is no picture {path}")


def _names(kind: Any) -> list[str]:
    return [kind.field(number).name for number in range(kind.num_fields)]
