"""Numbers that a program is compiled with: checked for kind and range, one line that says which."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "array_repr",
    "checked_finite",
    "checked_integer",
    "checked_positive",
    "short_repr",
    "unreadable",
]


def checked_integer(name: str, value: Any, *, least: int | None = 1) -> int:
    """An integer of Python or numpy that is at least so much; None: whatever it is.

    >>> checked_integer("heads", np.int64(4))
    4
    >>> checked_integer("heads", True)
    Traceback (most recent call last):
    TypeError: heads is an integer, got True: write heads=1
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        hint = f": write {name}={int(value)}" if _rounds(value) else ""
        raise TypeError(f"{name} is an integer, got {short_repr(value)}{hint}")
    if least is not None and value < least:
        raise ValueError(f"{name} is at least {least}, got {value}")
    return int(value)


def checked_finite(name: str, value: Any, hint: str = "") -> float:
    """A number of Python or numpy, neither nan nor infinite; `hint` says what to write instead.

    >>> checked_finite("scale", float("nan"), "None for 1 / sqrt(D)")
    Traceback (most recent call last):
    ValueError: scale is finite, got nan: write None for 1 / sqrt(D)
    """
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} is a Python number, got {value}: multiply q instead of tracing it")
    if not _real(value):
        raise TypeError(f"{name} is a Python number, got {short_repr(value)}")
    if not _bounded(value):
        raise ValueError(f"{name} is finite, got {value}" + (f": write {hint}" if hint else ""))
    return float(value)


def checked_positive(name: str, value: Any, hint: str = "") -> float:
    """The same, above 0."""
    value = checked_finite(name, value, hint)
    if not value > 0:
        more = f": write {hint}" if hint else ""
        raise ValueError(f"{name} must be positive, got {value}{more}")
    return value


def short_repr(value: Any) -> str:
    """A value on one line, and not the whole of a long one.

    >>> short_repr(np.ones((2, 1)))
    'array([[1.], [1.]])'
    """
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def array_repr(value: Any) -> str:
    """An array by its dtype and shape, anything else as `short_repr`; no array is read.

    >>> array_repr(np.ones((2, 1), np.float32)), array_repr(3)
    ('float32[2,1]', '3')
    """
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return short_repr(value)
    return f"{dtype}[{','.join(map(str, shape))}]"


def unreadable(tree: Any) -> str:
    """Why the arrays of a tree cannot be looked at here and now; empty where they can.

    >>> unreadable({"a": np.ones(3), "b": 2}), unreadable(object())
    ('', 'it holds no arrays')
    """
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.core.Tracer):
            return "its arrays are traced"
        if isinstance(leaf, jax.Array):
            if leaf.is_deleted():
                return "its arrays are deleted"
            if not leaf.is_fully_addressable:
                return "its arrays lie on other hosts"
        elif not isinstance(leaf, np.ndarray | np.generic | int | float):
            return "it holds no arrays"
    return ""


def _real(value: Any) -> bool:
    """Whether it is one real number: no bool, no text, no array of several."""
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    if not isinstance(value, np.generic | np.ndarray | jax.Array) or value.ndim:
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.integer, jnp.floating))


def _bounded(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float holds
        return False


def _rounds(value: Any) -> bool:
    return isinstance(value, bool | float) and math.isfinite(value) and int(value) == value
