"""The file of texts beside the pictures: rows of a jsonl, json or csv file, by their line.

What is wrong is collected by line, so that one run of the command names it all. Files of strangers
are read as text: nothing in them is run.
"""

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from crossattn.data.errors import DataError, one_line

__all__ = ["BadLines", "TableRow", "find_table", "is_within", "parse_json", "read_rows"]

ENDINGS = (".jsonl", ".json", ".csv")
EXAMPLE = '{"image": "cat.jpg", "caption": "a red cat"}'
# Bad lines that are told in full.
TOLD = 3
DELIMITERS = ",;\t"


class TableRow(NamedTuple):
    """A line of the file: its number, and what its columns hold."""

    number: int
    values: dict[str, Any]


class BadLines:
    """Collects what is wrong with the lines of a file.

    Example:
        >>> bad = BadLines(Path("captions.jsonl"))
        >>> bad.add(17, "has no picture")
        >>> bad.check()
        Traceback (most recent call last):
          ...
        crossattn.data.errors.DataError: captions.jsonl, line 17: has no picture
    """

    def __init__(self, file: Path):
        self.name, self.unit = file.name, "line"
        self.found: dict[int, str] = {}

    def add(self, number: int, why: object) -> None:
        """One more, or one more fault of the same line, of which the first is told."""
        self.found.setdefault(number, one_line(why))

    def check(self) -> None:
        """Raise a DataError of one line where there are any: the first ones, and how many more."""
        if not self.found:
            return
        told = [f"{self.unit} {number}: {self.found[number]}" for number in sorted(self.found)]
        more = len(told) - TOLD
        said = "; ".join(told[:TOLD]) + (f"; and {more} more bad {self.unit}s" if more > 0 else "")
        raise DataError(f"{self.name}, {said}")


def find_table(directory: Path, name: str, example: str = EXAMPLE) -> Path:
    """The one file of texts in a folder, or the one that is named.

    Args:
        directory: the folder.
        name: of the file; empty where it is the only one.
        example: a line of such a file, for messages.

    Raises:
        DataError: there is no such folder or file, or there are several; says what to type.
    """
    if directory.is_file():
        raise DataError(
            f"{directory} is a file: type --data.directory {directory.parent} "
            f"--data.file {directory.name}"
        )
    if not directory.is_dir():
        raise DataError(f"there is no folder {directory}")
    if name:
        file = directory / name
        if not is_within(name) or file.suffix.lower() not in ENDINGS or not file.is_file():
            raise DataError(
                f"--data.file {name}: expected a file in {directory} that ends with "
                f"{', '.join(ENDINGS)}"
            )
        return file
    try:
        there = sorted(file for file in directory.iterdir() if _is_table(file))
        deeper = sorted(file for file in directory.glob("*/*") if _is_table(file))
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror}") from None
    if len(there) > 1:
        names = ", ".join(file.name for file in there)
        raise DataError(f"{directory} has {names}: choose one, like --data.file {there[0].name}")
    if not there:
        hint = f"; did you mean --data.directory {deeper[0].parent}?" if deeper else ""
        raise DataError(
            f"{directory} has no file of texts: expected one .jsonl, .json or .csv file in it, "
            f"with lines like {example}{hint}"
        )
    return there[0]


def _is_table(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS and not file.name.startswith(".") and file.is_file()


def is_within(path: str) -> bool:
    """Whether a path, as it is written, stays within the folder that it is relative to.

    Links are followed: who downloads a data set may have its pictures as links to a store.

    Example:
        >>> is_within("images/cat.jpg"), is_within("images/../../x"), is_within("/etc/passwd")
        (True, False, False)
    """
    plain = os.path.normpath(path)
    return not (os.path.isabs(plain) or plain.split(os.sep)[0] == os.pardir or "\0" in path)


def read_rows(file: Path, bad: BadLines, example: str = EXAMPLE) -> list[TableRow]:
    """The rows of a file; what is no row is collected.

    Raises:
        DataError: the file as a whole cannot be read.
    """
    try:
        # Bytes that are no UTF-8 become signs that are refused with their line.
        text = file.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    if file.suffix.lower() == ".csv":
        found = list(_csv_rows(file, text, bad))
    elif file.suffix.lower() == ".json" and text.lstrip().startswith("["):
        bad.unit = "entry"
        found = [TableRow(number, value) for number, value in enumerate(_json_list(file, text), 1)]
    else:
        found = list(_json_lines(text, bad))
    rows = []
    for row in found:
        if not isinstance(row.values, dict):
            bad.add(row.number, f"expected an object like {example}")
        elif _is_unicode(row.values):
            rows.append(row)
        else:
            bad.add(row.number, "holds what is no text of UTF-8")
    return rows


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def _json_lines(text: str, bad: BadLines) -> Iterator[TableRow]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield TableRow(number, parse_json(line))
            except ValueError as error:
                bad.add(number, error)


def _json_list(file: Path, text: str) -> list[Any]:
    try:
        return parse_json(text)
    except ValueError as error:
        raise DataError(f"{file.name} {error}") from None


def parse_json(text: str) -> Any:
    """A value of JSON.

    Raises:
        ValueError: it is none, or a name stands twice in an object, of which one would be lost.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {one_line(error)}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"has {name!r} twice")
        found[name] = value
    return found


def _constant(name: str) -> None:
    raise ValueError(f"has {name}, which is no JSON")


def _csv_rows(file: Path, text: str, bad: BadLines) -> Iterator[TableRow]:
    """Rows by the line on which they begin; empty fields are left out."""
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad.add(number, f"is no row of a csv file: {error}")
            return
        if not any(fields):
            continue
        if not header:
            header = [name.strip() for name in fields]
            named = [name for name in header if name]
            if twice := [name for name in named if named.count(name) > 1]:
                raise DataError(f"{file.name} has the column {twice[0]!r} twice")
        elif len(fields) != len(header):
            bad.add(number, f"has {len(fields)} fields, the first line names {len(header)}")
        else:
            filled = zip(header, fields, strict=True)
            yield TableRow(number, {name: field for name, field in filled if field and name})
