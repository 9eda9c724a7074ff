"""Large JSON files read entry by entry: what is held is one entry and a block of the file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.errors import DataError, one_line

__all__ = ["json_entries", "json_lines", "json_object"]

BLOCK = 2**20
# What ends within so many characters of what has been read may go on in the next block.
UNSURE = 2**16
SPACE = " \t\r\n"
DECODER = json.JSONDecoder()


def json_entries(file: Path, key: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a list or an object in a file, each with its place or its name.

    Args:
        file: a list [...] or an object {...}.
        key: where given, the file is an object, and the entries are those of its list or object
            under this key.

    Raises:
        DataError: names the file and the entry that cannot be read.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "captions.json"
        >>> _ = file.write_text('{"info": {"year": 2017}, "annotations": [{"id": 3}, {"id": 5}]}')
        >>> list(json_entries(file, "annotations"))
        [('1', {'id': 3}), ('2', {'id': 5})]
    """
    try:
        with file.open(encoding="utf-8-sig") as text:
            yield from _Reader(file.name, text).entries(key)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is no text of UTF-8: {one_line(error)}") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """The objects of a file with one on each line, by the number of the line.

    Raises:
        DataError: names the file and the line that cannot be read.
    """
    try:
        with file.open(encoding="utf-8-sig") as text:
            for number, line in enumerate(text, 1):
                if line.strip():
                    yield str(number), json.loads(line)
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name} is no text of UTF-8: {one_line(error)}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name}, line {number}: is no JSON: {one_line(error)}") from None


def json_object(file: Path) -> dict[str, Any]:
    """A small file that holds one object.

    Raises:
        DataError: names the file that cannot be read.
    """
    return dict(json_entries(file))


class _Reader:
    def __init__(self, name: str, text: Any):
        self.name, self.text, self.ended = name, text, False
        self.held, self.at, self.entry = "", 0, "the beginning"

    def entries(self, key: str) -> Iterator[tuple[str, Any]]:
        opened = self._sign("{" if key else "[{")
        if not key:
            yield from self._inside(opened)
        else:
            found = False
            for name in self._names():
                begins = self._peek()
                if name == key and begins in "[{":
                    found = True
                    yield from self._inside(self._sign("[{"), f" of {name}")
                elif begins in "[{":  # of any size
                    for _ in self._inside(self._sign("[{"), f" of {name}"):
                        pass
                else:
                    self._value()
            if not found:
                raise DataError(f"{self.name} has no list {key!r}")
        if self._peek():
            raise self._damaged("goes on after its end")

    def _inside(self, opened: str, of: str = "") -> Iterator[tuple[str, Any]]:
        if opened == "{":
            for name in self._names():
                self.entry = f"entry {name!r}{of}"
                yield name, self._value()
            return
        number = 0
        while self._more("]", number):
            number += 1
            self.entry = f"entry {number}{of}"
            yield str(number), self._value()

    def _names(self) -> Iterator[str]:
        """Each name of an object, the value being next."""
        number = 0
        while self._more("}", number):
            number += 1
            name = self._value()
            if not isinstance(name, str):
                raise self._damaged(f"expected a name, got {name!r}")
            self._sign(":")
            yield name

    def _more(self, end: str, before: int) -> bool:
        """Whether a value follows; its comma and the end are read."""
        sign = self._peek()
        if sign == end:
            self.at += 1
            return False
        if before:
            self._sign(",")
        return True

    def _peek(self) -> str:
        """The next sign that is no space, which stays; empty at the end of the file."""
        while True:
            while self.at < len(self.held) and self.held[self.at] in SPACE:
                self.at += 1
            if self.at < len(self.held):
                return self.held[self.at]
            if not self._read():
                return ""

    def _sign(self, expected: str) -> str:
        found = self._peek()
        if not found or found not in expected:
            raise self._damaged(f"expected {' or '.join(expected)}, got {found or 'the end'!r}")
        self.at += 1
        return found

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = DECODER.raw_decode(self.held, self.at)
            except RecursionError:
                raise self._damaged("is nested too deeply") from None
            except json.JSONDecodeError as error:
                if error.pos < len(self.held) - UNSURE or not self._read():
                    raise self._damaged(f"is no JSON: {error.msg}") from None
                continue
            # A number could go on.
            if end == len(self.held) and self._read():
                continue
            self.at = end
            return value

    def _read(self) -> bool:
        """Read on; what was used up is dropped."""
        if self.ended:
            return False
        # Twice as much for an entry that is longer than a block.
        block = self.text.read(max(BLOCK, len(self.held) - self.at))
        self.ended = not block
        self.held, self.at = self.held[self.at :] + block, 0
        return bool(block)

    def _damaged(self, why: str) -> DataError:
        return DataError(f"{self.name}, {self.entry}: {why}")
