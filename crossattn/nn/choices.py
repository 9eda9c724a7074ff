"""Settings that are chosen by a word: a misspelt one is refused in one line."""

import dataclasses
import functools
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, get_args, get_origin

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
    owner = settings.__class__
    for field in _listed(owner):
        what, value = f"{owner.__name__}.{field.name}", getattr(settings, field.name)
        if field.words and field.several and isinstance(value, str):
            raise ValueError(f"{what} is a tuple of words: write ({value!r},), not {value!r}")
        if field.several and not isinstance(value, tuple | list):
            raise TypeError(f"{what} is a tuple, got {value!r}: write ({value!r},)")
        if field.made_of and not isinstance(value, field.kinds):
            wanted = " or ".join(kind.__name__ for kind in field.made_of)
            raise TypeError(
                f"{what} is a {wanted}, got {value!r}: write {field.made_of[0].__name__}(...)"
            )
        for one in value if field.several else (value,):
            if field.words:
                known(what, one, field.words)
            elif field.numbers:
                _check_number(what, one, field)


class _Field(NamedTuple):
    """What the type of a field lists."""

    name: str
    words: tuple[Any, ...]
    several: bool  # a tuple of them
    kinds: tuple[type, ...]  # () where it lists something else as well
    made_of: tuple[type, ...]  # those of its kinds that are dataclasses
    numbers: frozenset[Any]  # int, float, None; empty where it lists something else as well


@functools.lru_cache(maxsize=256)
def _listed(owner: type) -> tuple[_Field, ...]:
    """Of all fields of a dataclass, read once: tracing a program makes modules by the thousand.

    Bounded, since each use of `nn.vmap` or `nn.remat` makes a class, which is to be freed again.
    """
    return tuple(_field(one) for one in dataclasses.fields(owner) if one.name not in LINEN)


def _field(field: Any) -> _Field:
    words, kinds = _words(field.type), _kinds(field.type)
    made_of = tuple(kind for kind in kinds if dataclasses.is_dataclass(kind))
    several = get_origin(field.type) is tuple
    return _Field(field.name, words, several, kinds, made_of, _numbers(field.type))


def _kinds(kind: Any) -> tuple[type, ...]:
    """The classes that a type lists, () where it lists something else as well."""
    kinds = get_args(kind) or (kind,)
    return kinds if all(isinstance(one, type) for one in kinds) else ()


def _numbers(kind: Any) -> frozenset[Any]:
    """Of a type that lists numbers, tuples of them and None, and nothing else."""
    kinds = set(get_args(kind) or (kind,)) - {...}
    return frozenset(kinds if kinds & {int, float} and kinds <= {int, float, type(None)} else ())


def _check_number(what: str, value: Any, field: _Field) -> None:
    if value is None and type(None) in field.numbers:
        return
    if float not in field.numbers:
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
