"""What measures are checked for: NumPy broadcasts in silence what is meant otherwise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = [
    "boolean",
    "finite_numbers",
    "jax_or_numpy",
    "map_and_region",
    "not_empty",
    "not_negative",
    "of_one_shape",
    "one_number_each",
    "products_of",
    "squared_distances",
]


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


def not_empty(name: str, array: Any, axes: str) -> Any:
    """The array, which has numbers, and these axes; "..." is any more.

    >>> not_empty("features", np.ones((0, 8)), "N D")
    Traceback (most recent call last):
    ValueError: features (0, 8): an array (N, D) with entries is meant
    """
    letters = axes.split()
    more = array.ndim - len([letter for letter in letters if letter != "..."])
    if more < 0 or (more > 0 and "..." not in letters) or 0 in array.shape:
        raise ValueError(
            f"{name} {array.shape}: an array ({', '.join(letters)}) with entries is meant"
        )
    return array


def not_negative(name: str, array: Any) -> Any:
    """The array, which has entries and none below 0; what is traced is not checked.

    >>> not_negative("weights", np.array([0.5, -0.5]))
    Traceback (most recent call last):
    ValueError: weights is at least 0, got -0.5
    """
    if not isinstance(array, jax.core.Tracer) and array.min() < 0:
        raise ValueError(f"{name} is at least 0, got {float(array.min()):g}")
    return array


def one_number_each(name: str, array: Any, count: int) -> np.ndarray:
    """What a caller's function says of so many examples, in float64: a finite number (or a
    yes or no) of each.

    >>> one_number_each("score", np.ones((2, 3)), 2)
    Traceback (most recent call last):
    ValueError: score gives one number of each, (2,), got (2, 3)
    """
    array = np.asarray(array)
    array = finite_numbers(name, array.astype(float) if array.dtype == bool else array)
    if array.shape != (count,):
        raise ValueError(f"{name} gives one number of each, ({count},), got {array.shape}")
    return array.astype(np.float64)


def map_and_region(weights: Any, region: Any) -> tuple[np.ndarray, np.ndarray]:
    """Finite weights, in float64, and a boolean region of one shape (..., P), with entries.

    >>> map_and_region([0.2, 0.8], [0, 1])
    Traceback (most recent call last):
    ValueError: region is boolean, got int64: write region > 0
    """
    weights, region = of_one_shape(
        "... P", weights=finite_numbers("weights", weights), region=region
    )
    return not_empty("weights", weights.astype(np.float64), "... P"), boolean("region", region)


def jax_or_numpy(name: str, array: Any) -> tuple[Any, Any]:
    """The module to compute with, and the array: of JAX if it is one of JAX, else NumPy's float64.

    JAX keeps its precision, but for halves: they are computed in float32. What is traced has no
    values that could be checked.

    >>> module, array = jax_or_numpy("weights", [1, 2])
    >>> module.__name__, array.dtype.name
    ('numpy', 'float64')
    """
    if not isinstance(array, jax.Array):
        return np, finite_numbers(name, array).astype(np.float64)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} has floating-point numbers, got {array.dtype}")
    if array.dtype.itemsize < 4:
        array = array.astype(jnp.float32)
    if not isinstance(array, jax.core.Tracer):
        finite_numbers(name, array)
    return jnp, array


def products_of(xp: Any, a: Any, b: Any) -> Any:
    """a @ b, in JAX too with all digits of float32: GPUs and TPUs take fewer unless told.

    >>> products_of(np, np.eye(2), np.array([[3.0], [4.0]])).ravel().tolist()
    [3.0, 4.0]
    """
    return a @ b if xp is np else jnp.matmul(a, b, precision="highest")


def squared_distances(xp: Any, x: Any) -> Any:
    """Of N things from each other, (..., N, N), from features (..., N, D).

    Around their mean, where products of float32 lose least.

    >>> squared_distances(np, np.array([[1.0, 0.0], [4.0, 4.0]])).tolist()
    [[0.0, 25.0], [25.0, 0.0]]
    """
    x = x - x.mean(axis=-2, keepdims=True)
    squares = (x**2).sum(axis=-1)
    both = squares[..., :, None] + squares[..., None, :]
    return (both - 2 * products_of(xp, x, x.swapaxes(-1, -2))).clip(min=0)
