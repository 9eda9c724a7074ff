"""What the fields of a description take: checked when it is made, and said in one line."""

import dataclasses
import difflib
import math
import numbers
import os
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossattn.spelling import where_field_is

KINDS = {
    int: "a whole number",
    float: "a finite number",
    bool: "True or False",
    str: "a text",
    type(None): "None",
}


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
        said = f"{name} takes {_kind(hint)}, got {reprlib.repr(value)}"
        words = [word for word in _members(hint, typing.Literal) if isinstance(word, str)]
        near = difflib.get_close_matches(str(value), words, n=1)
        raise ValueError(f"{said}: did you mean {near[0]}?" if near else said) from None


def options_of(hint: Any) -> tuple[Any, ...]:
    """The annotations of a union, or the one annotation.

    Example:
      >>> options_of(int | None), options_of(int)
      ((<class 'int'>, <class 'NoneType'>), (<class 'int'>,))
    """
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _members(hint: Any, origin: Any) -> list[Any]:
    """What the annotations of an origin list."""
    of = (one for one in options_of(hint) if typing.get_origin(one) is origin)
    return [member for one in of for member in typing.get_args(one)]


def described_by(hint: Any) -> list[type]:
    """The dataclasses that a field may hold."""
    return [one for one in options_of(hint) if dataclasses.is_dataclass(one)]  # type: ignore[misc]


def _fit(hint: Any, value: Any) -> Any:
    """The value, or a TypeError."""
    if len(several := options_of(hint)) > 1:
        for one in several:
            try:
                return _fit(one, value)
            except TypeError:
                continue
    if hint is type(None) and value is None:
        return None
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
    if len(several := options_of(hint)) > 1:
        return " or ".join(map(_kind, several))
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


def changed(
    node: Any,
    changes: Mapping[Any, Any],
    prefix: str = "",
    above: Mapping[str, str] = types.MappingProxyType({}),
) -> Any:
    """A dataclass with some fields changed, at once: named by dotted path, in whatever order.

    A change below a field that is None starts from the field that it stands for: `cross_residual`
    from `residual`, with the changes of that one, else from the defaults of its dataclass. A
    dataclass with a method `implied(changes)` says which fields follow from new values of others;
    what is changed of these at once comes on top. One with a method `kind_for(changes)` says which
    class it becomes; it keeps the fields that both have.

    Args:
      node: the dataclass.
      changes: value by path.
      prefix: stands before the names of fields in what is said.
      above: paths of the fields of what the dataclass is within, by name.

    Raises:
      ValueError: there is no such field, one is changed twice, or a value is not for it.
    """
    kind = node.kind_for(changes) if hasattr(node, "kind_for") else type(node)
    whole, parts = _sorted(node, kind, changes, prefix, above)
    above = {**above, **{field.name: prefix + field.name for field in dataclasses.fields(node)}}
    start = {**(node.implied(whole) if hasattr(node, "implied") else {}), **whole}
    for name in sorted(parts, key=lambda name: start.get(name, getattr(node, name)) is None):
        within = start.get(name, getattr(node, name))
        if within is None:
            within = _instead(node, name, start)
        start[name] = changed(within, parts[name], f"{prefix}{name}.", above)
    known = {field.name for field in dataclasses.fields(kind)}
    given = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    try:
        return kind(**{name: value for name, value in given.items() if name in known} | start)
    except TypeError as error:  # a dataclass that checks itself in its own words
        raise ValueError(f"{prefix.rstrip('.')}: {error}".removeprefix(": ")) from None


def _sorted(
    node: Any, kind: type, changes: Mapping[Any, Any], prefix: str, above: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """New values of whole fields, and changes below fields, of the class that they lead to."""
    fields = {field.name: field.type for field in dataclasses.fields(kind)}
    whole: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        if not isinstance(path, str):
            raise ValueError(f"a field is named by a text like model.width, got {path!r}")
        name, dot, rest = path.partition(".")
        if name not in fields:
            inner = flat(dataclasses.asdict(node))
            said = f"{type(node).__name__} has no field {name!r}"
            raise ValueError(f"{said}{where_field_is(path, fields, inner, prefix, above)}")
        if not dot:
            whole[name] = fitted(fields[name], value, prefix + name)
        elif described_by(fields[name]):
            parts.setdefault(name, {})[rest] = value
        else:
            raise ValueError(f"{prefix}{name} is a value and has no field {rest!r}")
    if twice := whole.keys() & parts.keys():
        raise ValueError(f"{', '.join(sorted(twice))} is changed as a whole and in part")
    return whole, parts


def _instead(node: Any, name: str, start: Mapping[str, Any]) -> Any:
    """What a field that is None begins with."""
    fields = {field.name: field.type for field in dataclasses.fields(node)}
    for other in fields:
        if name.endswith(f"_{other}"):
            return start.get(other, getattr(node, other))
    return described_by(fields[name])[0]()


def spelled_out(node: Any) -> Any:
    """A dataclass whose parts that are None are those that they stand for, see `changed`."""
    start: dict[str, Any] = {}
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        if value is None and described_by(field.type):
            value = _instead(node, field.name, start)
        if dataclasses.is_dataclass(value):
            start[field.name] = spelled_out(value)
    return dataclasses.replace(node, **start)


def changes_between(one: Any, other: Any, prefix: str = "") -> dict[str, Any]:
    """What makes another dataclass of one, as `changed` takes it: values by dotted path."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(one):
        path = prefix + field.name
        a, b = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(a) and type(a) is type(b):
            found |= changes_between(a, b, f"{path}.")
        elif a != b:
            found[path] = b
    return found


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
