"""What the constructors of `Mask` take, and what they say to everything else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.ops.numbers import short_repr
from crossattn.shapes import Array

__all__ = ["check_shape", "checked_booleans", "checked_counts", "checked_distance", "checked_ids"]

# Beyond every length, and an int32 also where it goes through `jit`.
FARTHEST = 2**31 - 1


def checked_counts(name: str, x: Any, *axes: str) -> Any:
    """Integers of which only the order matters: huge ones are cut to what jax holds."""
    return _integers(name, _narrow(x), axes)


def checked_ids(name: str, x: Any, axes: str) -> Any:
    """Integers that are only compared: cut ones could collide, so they are refused."""
    narrow = _narrow(x)
    if isinstance(narrow, np.ndarray) and not np.array_equal(x, narrow):
        raise ValueError(
            f"{name} has ids beyond {narrow.dtype}: number them from 0, with "
            "np.unique(ids, return_inverse=True), or set jax_enable_x64"
        )
    return _integers(name, narrow, (axes,))


def checked_distance(name: str, x: Any, example: str) -> Any:
    """A number of positions for all, or one an example: an integer or integers (B,), or None."""
    if isinstance(x, bool | np.bool_):
        raise TypeError(f"{name} takes an integer, got {x}: write {example}")
    if isinstance(x, int | np.integer):
        x = int(x)
        return max(-FARTHEST, min(x, FARTHEST))
    return checked_counts(name, x, "", "B")


def _narrow(x: Any) -> Any:
    """Numpy's and Python's integers in the width that jax will keep, which would wrap them."""
    if not isinstance(x, np.ndarray | np.generic | list | tuple):
        return x
    try:
        narrow = np.asarray(x)
    except ValueError:  # lists of unequal lengths: `_array` says so
        return x
    if not np.issubdtype(narrow.dtype, np.integer):
        return x
    info = np.iinfo(jax.dtypes.canonicalize_dtype(narrow.dtype))
    return np.clip(narrow, info.min, info.max).astype(info.dtype)


def _array(name: str, x: Any, what: str) -> Array:
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:  # text, None, lists of unequal lengths
        raise TypeError(f"{name} takes {what}, got {short_repr(x)}: write an array") from error


def _integers(name: str, x: Any, axes: tuple[str, ...]) -> Any:
    if x is None:
        return None
    x = _array(name, x, "integers")
    if not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{name} takes integers, got {x.dtype}: write x.astype(jnp.int32)")
    if x.ndim not in {len(a.split()) for a in axes}:
        wanted = " or ".join(f"({', '.join(a.split())})" for a in axes)
        raise ValueError(f"{name} takes integers of shape {wanted}, got shape {x.shape}")
    return x


# What a mask of too low a rank most often means, and how to say it.
_RESHAPE = {
    0: "mask[None, None, None, None]",
    1: "mask[None, None, None, :] for keys (S,)",
    2: "mask[:, None, None, :] for keys (B, S), mask[None, None] for pairs (T, S)",
    3: "mask[:, None] for (B, T, S), mask[None] for (H, T, S)",
}


def checked_booleans(name: str, x: Any, axes: str) -> Array:
    """Booleans with these axes; "|1" axes may be 1."""
    x = _array(name, x, "booleans")
    if x.dtype != jnp.bool_:
        raise TypeError(
            f"{name} takes booleans (True = visible), got {x.dtype}: write mask.astype(bool); "
            "numbers added to the scores are a bias"
        )
    letters = axes.split()
    if x.ndim != len(letters):
        hint = f"; write {_RESHAPE[x.ndim]}" if len(letters) == 4 and x.ndim in _RESHAPE else ""
        raise ValueError(
            f"{name} takes booleans of shape ({', '.join(letters)}), got shape {x.shape}{hint}"
        )
    return x


def check_shape(
    name: str, shape: tuple[int, ...], axes: str, sizes: Mapping[str, int | None]
) -> None:
    """Raise ValueError unless `shape` has `axes` of these sizes; a size of None is not checked."""
    letters = axes.split()
    wanted = [sizes[a[0]] for a in letters]
    fits = len(shape) == len(letters) and all(
        w is None or n == w or (n == 1 and a.endswith("|1"))
        for n, w, a in zip(shape, wanted, letters, strict=True)
    )
    if not fits:
        said = ", ".join(f"{a[0]}={sizes[a[0]]}" for a in letters if sizes[a[0]] is not None)
        raise ValueError(
            f"{name} has shape {shape} but this call wants ({', '.join(letters)}) with {said}"
        )
