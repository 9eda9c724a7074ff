"""What measures are checked for: NumPy broadcasts in silence what is meant otherwise."""

from typing import Any

import numpy as np

__all__ = ["boolean", "finite_numbers", "of_one_shape"]


def finite_numbers(name: str, array: Any) -> np.ndarray:
    """The array, whose entries are finite real numbers.

    >>> finite_numbers("score", np.array([0.5, np.nan]))
    Traceback (most recent call last):
    ValueError: score has 1 of 2 numbers that are not finite
    """
    array = np.asarray(array)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise ValueError(f"{name} has numbers, got {array.dtype}")
    if bad := int(np.count_nonzero(~np.isfinite(array))):
        raise ValueError(f"{name} has {bad} of {array.size} numbers that are not finite")
    return array


def boolean(name: str, array: Any) -> np.ndarray:
    """The array, which is boolean: of 0 and 1 as numbers the complement is something else."""
    array = np.asarray(array)
    if array.dtype != bool:
        raise ValueError(f"{name} is boolean, got {array.dtype}: write {name} > 0")
    return array


def of_one_shape(axes: str, **arrays: Any) -> list[np.ndarray]:
    """Arrays of one shape with these axes; leading ones may be any where axes begins with "...".

    >>> of_one_shape("E T", words=np.ones((2, 3)), slots=np.ones((2, 1)))
    Traceback (most recent call last):
    ValueError: words (2, 3), slots (2, 1): one shape (E, T) is meant
    """
    found = {name: np.asarray(array) for name, array in arrays.items()}
    letters = axes.split()
    shapes = [array.shape for array in found.values()]
    least = len(letters) - (letters[0] == "...")
    fits = len(shapes[0]) >= least if letters[0] == "..." else len(shapes[0]) == least
    if len(set(shapes)) > 1 or not fits:
        said = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"{said}: one shape ({', '.join(letters)}) is meant")
    return list(found.values())
