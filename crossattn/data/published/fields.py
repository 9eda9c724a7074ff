"""Fields of an entry of a set, each of the kind that it must have."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import MALFORMED, entry_error
from crossattn.data.published.spool import Spool

__all__ = ["field", "identity", "look_up", "spool_entries"]

Kind = TypeVar("Kind", str, int, list, dict)
SPELT = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}


def field(entry: Any, name: str, kind: type[Kind]) -> Kind:
    """A field of an entry.

    Args:
        entry: an object of JSON.
        name: of the field.
        kind: str, int, list or dict; texts and numbers that stand for one another are refused.

    Raises:
        ValueError: the entry is no object, or the field is missing or of another kind.

    Example:
        >>> field({"caption": "a cat"}, "caption", str)
        'a cat'
        >>> field({"caption": None}, "caption", str)
        Traceback (most recent call last):
          ...
        ValueError: has caption None, expected a text
    """
    value = _there(entry, name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"has {name} {one_line(value)}, expected {SPELT[kind]}")
    return value


def identity(entry: Any, name: str) -> str:
    """A field that names an entry, a text or a whole number, as text.

    Raises:
        ValueError: as `field`.
    """
    value = _there(entry, name)
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise ValueError(f"has {name} {one_line(value)}, expected a whole number or a text")
    return str(value)


def look_up(spool: Spool, entry: Any, name: str, listed: str) -> Any:
    """What a spool holds under the name in a field of an entry.

    Raises:
        ValueError: nothing, or as `field`.
    """
    own = identity(entry, name)
    try:
        return spool.get(own)
    except KeyError:
        raise ValueError(f"has {name} {one_line(own)}, which {listed} has not") from None


def spool_entries(file: Path, key: str, read: Callable[[str, Any], tuple[str, Any]]) -> Spool:
    """What is read of each entry of a list or object in a file, under the name that it has.

    Args:
        file: of JSON.
        key: of the list or object; the whole file where it is empty.
        read: takes an entry's place or name and the entry; gives its name and what to keep.

    Raises:
        DataError: an entry is damaged, or two have one name.
    """
    spool, of = Spool(), f" of {key}" if key else ""
    for entry, value in json_entries(file, key):
        try:
            spool.add(*read(entry, value))
        except MALFORMED as error:
            raise entry_error(file, entry + of, error) from None
    if twice := spool.repeated():
        first, second = (place + 1 for place in twice)
        raise DataError(f"{file.name}: entries {first} and {second}{of} have the same name or id")
    return spool


def _there(entry: Any, name: str) -> Any:
    if not isinstance(entry, dict):
        raise ValueError(f"is {one_line(entry)}, expected an object")
    if name not in entry:
        raise ValueError(f"has no {name}")
    return entry[name]
