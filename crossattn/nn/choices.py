"""Settings that are chosen by a word: a misspelt one is refused in one line."""

import dataclasses
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from crossattn.ops.numbers import checked_finite, checked_integer, checked_positive

__all__ = ["LINEN", "check_fields", "known"]

LINEN = ("parent", "name")  # fields that every Linen module has
ABOVE_ZERO = ("softcap", "theta", "expansion", "inner")
OR_NONE = ("registers", "tokens", "pictures", "before", "depth")  # counts that may be 0


def known(what: str, value: Any, words: Sequence[Any]) -> None:
    """Refuse a word that is none of those that are known.

    >>> known("gate", "sigmoyd", ("tanh", "sigmoid", None))
    Traceback (most recent call last):
    ValueError: unknown gate 'sigmoyd', did you mean 'sigmoid'? One of 'tanh', 'sigmoid', None
    """
    if value in words:
        return
    near = get_close_matches(str(value), [w for w in words if isinstance(w, str)], n=1)
    hint = f", did you mean {near[0]!r}? One" if near else ": one"
    raise ValueError(f"unknown {what} {value!r}{hint} of {', '.join(map(repr, words))}")


def check_fields(settings: Any) -> None:
    """Refuse what the types of a dataclass do not list: words, tuples of words, switches, numbers.

    Integers count something: at least 1, or 0 for what a design may do without. Other numbers are
    finite.

    Raises:
      ValueError: with the name of the field, what is known, and the nearest of it.
      TypeError: what is no number stands where one is meant, or a fraction for an integer.
    """
    for field in dataclasses.fields(settings):
        if field.name in LINEN:
            continue
        words = _words(field.type)
        what, value = f"{type(settings).__name__}.{field.name}", getattr(settings, field.name)
        several = get_origin(field.type) is tuple
        if words and several and isinstance(value, str):
            raise ValueError(f"{what} is a tuple of words: write ({value!r},), not {value!r}")
        if several and not isinstance(value, tuple | list):
            raise TypeError(f"{what} is a tuple, got {value!r}: write ({value!r},)")
        made_of = [kind for kind in _kinds(field.type) if dataclasses.is_dataclass(kind)]
        if made_of and not isinstance(value, _kinds(field.type)):
            wanted = " or ".join(kind.__name__ for kind in made_of)
            raise TypeError(
                f"{what} is a {wanted}, got {value!r}: write {made_of[0].__name__}(...)"
            )
        for one in value if several else (value,):
            if words:
                known(what, one, words)
            else:
                _check_number(what, one, field)


def _kinds(kind: Any) -> tuple[type, ...]:
    """The classes that a type lists, () where it lists something else as well."""
    kinds = get_args(kind) or (kind,)
    return kinds if all(isinstance(one, type) for one in kinds) else ()


def _check_number(what: str, value: Any, field: Any) -> None:
    """Of a field of which the type names nothing but numbers, tuples of them and None."""
    kinds = set(get_args(field.type) or (field.type,)) - {...}
    numbers = kinds & {int, float}
    if not numbers or kinds - {int, float, type(None)}:
        return
    if value is None and type(None) in kinds:
        return
    if numbers == {int}:
        checked_integer(what, value, least=0 if field.name in OR_NONE else 1)
    elif field.name in ABOVE_ZERO:
        checked_positive(what, value)
    elif checked_finite(what, value) < 0 and field.name in ("epsilon", "dropout"):
        raise ValueError(f"{what} is at least 0, got {value}")
    elif field.name == "dropout" and value >= 1:
        raise ValueError(f"{what} is a rate below 1, got {value}")


def _words(kind: Any) -> tuple[Any, ...]:
    """What a type lists; () for one that lists nothing."""
    if kind is bool:
        return (False, True)
    if get_origin(kind) is Literal:
        return get_args(kind)
    if not all(_words(one) or one is type(None) for one in get_args(kind) if one is not ...):
        return ()
    found = tuple(word for one in get_args(kind) for word in _words(one))
    return (*found, None) if found and type(None) in get_args(kind) else found
