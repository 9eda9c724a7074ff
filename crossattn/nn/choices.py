"""Settings that are chosen by a word: a misspelt one is refused in one line."""

import dataclasses
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

__all__ = ["check_fields", "known"]


def known(what: str, value: Any, words: Sequence[Any]) -> None:
    """Refuse a word that is none of those that are known.

    >>> known("Join.gate", "sigmoyd", ("tanh", "sigmoid", None))
    Traceback (most recent call last):
    ValueError: unknown Join.gate 'sigmoyd', did you mean 'sigmoid'? One of 'tanh', 'sigmoid', None
    """
    if value in words:
        return
    near = get_close_matches(str(value), [w for w in words if isinstance(w, str)], n=1)
    hint = f", did you mean {near[0]!r}? One" if near else ": one"
    raise ValueError(f"unknown {what} {value!r}{hint} of {', '.join(map(repr, words))}")


def check_fields(settings: Any) -> None:
    """Refuse what the types of a dataclass do not list: words, tuples of words, switches.

    Raises:
      ValueError: with the name of the field, what is known, and the nearest of it.
    """
    for field in dataclasses.fields(settings):
        words = _words(field.type)
        what, value = f"{type(settings).__name__}.{field.name}", getattr(settings, field.name)
        several = get_origin(field.type) is tuple
        if words and several and isinstance(value, str):
            raise ValueError(f"{what} is a tuple of words: write ({value!r},), not {value!r}")
        for one in value if several else (value,):
            if words:
                known(what, one, words)


def _words(kind: Any) -> tuple[Any, ...]:
    """What a type lists; () for one that lists nothing."""
    if kind is bool:
        return (False, True)
    if get_origin(kind) is Literal:
        return get_args(kind)
    found = tuple(word for one in get_args(kind) for word in _words(one))
    return (*found, None) if found and type(None) in get_args(kind) else found
