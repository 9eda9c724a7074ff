"""What the fields of a description take: checked when it is made, and said in one line."""

import dataclasses
import math
import numbers
import os
import reprlib
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

KINDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}


def settle(described: Any, prefix: str = "") -> None:
    """Give every field of a frozen dataclass the type that its annotation names.

    Numbers of NumPy become Python's and lists become tuples, so that equal descriptions are written
    alike; nothing else is converted.

    Args:
      described: the dataclass, in its `__post_init__`.
      prefix: stands before the names of fields in what is said.

    Raises:
      ValueError: a field holds something else; names it and what it takes.
    """
    for field in dataclasses.fields(described):
        value = fitted(field.type, getattr(described, field.name), prefix + field.name)
        object.__setattr__(described, field.name, value)


def fitted(hint: Any, value: Any, name: str) -> Any:
    """A value as an annotation has it.

    Raises:
      ValueError: it does not fit.

    Example:
      >>> fitted(tuple[int, ...], [np.int64(2), 3], "sizes")
      (2, 3)
      >>> fitted(int, "800", "steps")
      Traceback (most recent call last):
        ...
      ValueError: steps takes a whole number, got '800'
    """
    try:
        return _fit(hint, value)
    except TypeError:
        said = reprlib.repr(value)
        raise ValueError(f"{name} takes {_kind(hint)}, got {said}") from None


def _fit(hint: Any, value: Any) -> Any:
    """The value, or a TypeError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and isinstance(value, tuple | list):
        if arguments[-1] is Ellipsis:
            return tuple(_fit(arguments[0], item) for item in value)
        if len(value) == len(arguments):
            return tuple(_fit(one, item) for one, item in zip(arguments, value, strict=True))
    if origin is typing.Literal and isinstance(value, str) and value in arguments:
        return str(value)
    if hint is bool and isinstance(value, bool | np.bool_):
        return bool(value)
    if hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is float and real and math.isfinite(value):
        return float(value)
    if hint is str and isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(hint) and isinstance(value, typing.cast(type, hint)):
        return value
    if origin is dict and isinstance(value, Mapping):
        return dict(value)
    raise TypeError(hint)


def _kind(hint: Any) -> str:
    """What a field of an annotation takes, in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a tuple of which each is {_kind(arguments[0])}"
    if origin is tuple:
        return f"a tuple of {len(arguments)}, each {_kind(arguments[0])}"
    if origin is typing.Literal:
        return f"one of {', '.join(arguments)}"
    if origin is dict:
        return "a dict"
    return KINDS.get(hint) or f"a {hint.__name__}"


def positive(prefix: str = "", **fields: int | float) -> None:
    """Raise a ValueError that names a field which is not over 0."""
    for name, value in fields.items():
        if not value > 0:
            raise ValueError(f"{prefix}{name} must be positive, got {value}")


def changed(node: Any, changes: Mapping[Any, Any], prefix: str = "") -> Any:
    """A dataclass with some fields changed, at once: named by dotted path, in whatever order.

    Args:
      node: the dataclass.
      changes: value by path.
      prefix: stands before the names of fields in what is said.

    Raises:
      ValueError: there is no such field, one is changed twice, or a value is not for it.
    """
    fields = {field.name: field.type for field in dataclasses.fields(node)}
    whole: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        if not isinstance(path, str):
            raise ValueError(f"a field is named by a text like model.width, got {path!r}")
        name, dot, rest = path.partition(".")
        if name not in fields:
            what = type(node).__name__
            raise ValueError(f"{what} has no field {name!r}; it has {', '.join(fields)}")
        if not dot:
            whole[name] = fitted(fields[name], value, prefix + name)
        elif dataclasses.is_dataclass(fields[name]):
            parts.setdefault(name, {})[rest] = value
        else:
            raise ValueError(f"{prefix}{name} is a value and has no field {rest!r}")
    if twice := whole.keys() & parts.keys():
        raise ValueError(f"{', '.join(sorted(twice))} is changed as a whole and in part")
    inner = {
        name: changed(getattr(node, name), part, f"{prefix}{name}.") for name, part in parts.items()
    }
    return dataclasses.replace(node, **whole, **inner)


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, by dotted path.

    Example:
      >>> flat({"steps": 3, "model": {"width": 8}})
      {'steps': 3, 'model.width': 8}
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else None
        found.update({prefix + name: value} if inner is None else inner)
    return found
