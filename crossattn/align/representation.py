"""Similarity of two representations of the same N things: CKA, nearest neighbours, Procrustes.

The things are pairs (a picture and its caption), the representations may have different widths, and
leading axes are none: map over layers and heads with `jax.vmap` or a loop. CKA and CKNNA are
unbiased by default: with few things in many dimensions the biased estimate of unrelated features is
far above 0 (0.13 to 0.29 at N = 96). Functions take NumPy or JAX arrays, under `jit` too, and give
back the same kind.

`epsilon` is added to the denominators of CKA and CKNNA; Huh et al. 2024 ("The Platonic
Representation Hypothesis") have 1e-6 there, which depends on how large features are.
"""

from typing import Literal

import numpy as np
import scipy.linalg

from crossattn.align.arguments import jax_or_numpy, not_empty, products_of, squared_distances
from crossattn.shapes import Array, Float

__all__ = [
    "cka",
    "cknna",
    "common_neighbour_sequence",
    "cycle_neighbours",
    "mutual_neighbours",
    "procrustes",
]

Numbers = Array | np.ndarray


def cka(
    x: Float[Numbers, "N D"],
    y: Float[Numbers, "N M"],
    *,
    kernel: Literal["linear", "rbf"] = "linear",
    sigma: float = 1.0,
    unbiased: bool = True,
    epsilon: float = 0.0,
) -> Float[Numbers, ""]:
    """Centred kernel alignment (Kornblith et al. 2019), with Song et al.'s unbiased HSIC.

    1 for the same up to rotation, shift and scale (linear kernel), 0 for unrelated; the unbiased
    estimate may be a little below 0, and is NaN where x or y is not even similar to itself.

    Args:
      x: features of N things; more than three of them.
      y: other features of the same things.
      kernel: inner products, or exp(-d^2 / (2 sigma^2)).
      sigma: width of "rbf".
      unbiased: whether chance is 0 at any N.
      epsilon: is added to the denominator.

    Raises:
      ValueError: other shapes, too few things, numbers that are not finite, features that are all
        the same, an unknown kernel, sigma not above 0.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(8, 3))
      >>> round(float(cka(x, 2 * x[:, ::-1] + 1)), 6)
      1.0
    """
    if kernel not in ("linear", "rbf") or not sigma > 0:
        raise ValueError(f"kernel is linear or rbf, with sigma > 0, got {kernel!r}, sigma {sigma}")
    xp, x, y = _two(x, y, 4 if unbiased else 2)
    kx, ky = (_products(xp, z, kernel, sigma) for z in (x, y))
    return _aligned(xp, kx, ky, kx, ky, unbiased, epsilon)


def cknna(
    x: Float[Numbers, "N D"],
    y: Float[Numbers, "N M"],
    k: int,
    *,
    unbiased: bool = True,
    epsilon: float = 0.0,
) -> Float[Numbers, ""]:
    """CKA of what are near neighbours in both (CKNNA, Huh et al. 2024): local similarity.

    1 for the same; of unrelated features about K / N, since so many neighbours agree by chance.

    Args:
      x: features of N things; more than three of them.
      y: other features of the same things.
      k: how many neighbours, by inner product, 2 to N - 1; without `unbiased` a thing is its own.
      unbiased: as in `cka`.
      epsilon: is added to the denominator.

    Raises:
      ValueError: other shapes, too few things, numbers that are not finite, K out of range.

    Example:
      >>> x = np.random.default_rng(0).normal(size=(8, 3))
      >>> round(float(cknna(x, 2 * x, 3)), 6)
      1.0
    """
    xp, x, y = _two(x, y, 4 if unbiased else 2)
    if not 2 <= k < len(x):
        raise ValueError(f"k is 2 to {len(x) - 1} of {len(x)} things, got {k}")
    kx, ky = (_products(xp, z, "linear", 1.0) for z in (x, y))
    near_x, near_y = (_is_near(xp, products, k, not unbiased) for products in (kx, ky))
    both = near_x * near_y
    return _aligned(xp, kx * both, ky * both, kx * near_x, ky * near_y, unbiased, epsilon)


def mutual_neighbours(
    x: Float[Numbers, "N D"], y: Float[Numbers, "N M"], k: int
) -> Float[Numbers, " N"]:
    """Of each thing, the share of its K nearest neighbours in x that are so in y (mutual k-NN).

    Neighbours by inner product: scale features to length 1 for cosines. Chance K / (N - 1).

    Raises:
      ValueError: other shapes, numbers that are not finite, K out of 1 to N - 1.

    Example:
      >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
      >>> mutual_neighbours(x, x[:, ::-1], 1).tolist()
      [1.0, 1.0, 1.0, 1.0]
    """
    xp, x, y = _neighbourly(x, y, k)
    near = [_is_near(xp, _products(xp, z, "linear", 1.0), k, False) for z in (x, y)]
    return (near[0] * near[1]).sum(axis=1) / k


def cycle_neighbours(
    x: Float[Numbers, "N D"], y: Float[Numbers, "N M"], k: int
) -> Float[Numbers, " N"]:
    """1 for each thing that is a neighbour, in x, of one of its own neighbours in y (cycle k-NN).

    Chance is 1 - (1 - K / (N - 1))^K; features that are the same do not always have 1.

    Raises:
      ValueError: as `mutual_neighbours`.

    Example:
      >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
      >>> cycle_neighbours(x, x, 1).tolist()
      [1.0, 1.0, 1.0, 1.0]
    """
    xp, x, y = _neighbourly(x, y, k)
    near_x, near_y = (_is_near(xp, _products(xp, z, "linear", 1.0), k, False) for z in (x, y))
    # near_y[i, j] near_x[j, i] of any j.
    return ((near_y * near_x.T).sum(axis=1) > 0).astype(near_x.dtype)


def common_neighbour_sequence(
    x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N M"], k: int
) -> Float[np.ndarray, " N"]:
    """Of each thing, the longest sequence of neighbours that both have in one order (LCS k-NN).

    Between 0 and K, which is that of the same features.

    Raises:
      ValueError: as `mutual_neighbours`.

    Example:
      >>> x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
      >>> common_neighbour_sequence(x, x, 2).tolist()
      [2.0, 2.0, 2.0, 2.0]
    """
    xp, x, y = _neighbourly(np.asarray(x), np.asarray(y), k)
    a, b = (_ranked(xp, _products(xp, z, "linear", 1.0), False) for z in (x, y))
    length = np.zeros((k + 1, k + 1, len(a)))
    for i in range(k):
        for j in range(k):
            longer = np.maximum(length[i, j + 1], length[i + 1, j])
            length[i + 1, j + 1] = np.where(a[:, i] == b[:, j], length[i, j] + 1, longer)
    return length[k, k]


def procrustes(
    x: Float[np.ndarray, "N D"], y: Float[np.ndarray, "N D"]
) -> tuple[Float[np.ndarray, "D D"], float, float]:
    """The rotation that brings centred x nearest to centred y, its scale, and what is left.

    Returns:
      The orthogonal matrix R that makes x R - y least, the sum of the singular values of x'y, and
      the disparity: the squares that remain where both are scaled to norm 1, between 0 (the same
      up to rotation, shift and scale) and 1. Of unrelated features it is near 1 only where N is far
      above D: compare with that of shuffled things.

    Raises:
      ValueError: other shapes, numbers that are not finite, features that are all the same.

    Example:
      >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
      >>> rotation, scale, disparity = procrustes(x, x[:, ::-1])
      >>> (rotation.round(6) + 0).tolist(), abs(round(disparity, 6))
      ([[0.0, 1.0], [1.0, 0.0]], 0.0)
    """
    _, x, y = _two(np.asarray(x), np.asarray(y), 2)
    if x.shape != y.shape:
        raise ValueError(f"x {x.shape}, y {y.shape}: one shape (N, D) is meant")
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    rotation, scale = scipy.linalg.orthogonal_procrustes(x, y)
    aligned = scale / (np.linalg.norm(x) * np.linalg.norm(y))
    return rotation, float(scale), float(1 - aligned**2)


def _two(x, y, least):
    xp, x = jax_or_numpy("x", x)
    _, y = jax_or_numpy("y", y)
    not_empty("x", x, "N D")
    not_empty("y", y, "N M")
    if len(x) != len(y) or len(x) < least:
        said = f"x {x.shape}, y {y.shape}"
        raise ValueError(f"{said}: (N, D) and (N, M) of the same N >= {least} things are meant")
    if xp is np:
        for name, z in (("x", x), ("y", y)):
            if (z == z[0]).all():
                raise ValueError(f"{name} has the same features for all {len(z)} things")
    return xp, x, y


def _neighbourly(x, y, k):
    xp, x, y = _two(x, y, 2)
    if not 1 <= k < len(x):
        raise ValueError(f"k is 1 to {len(x) - 1} of {len(x)} things, got {k}")
    return xp, x, y


def _products(xp, x, kernel, sigma):
    if kernel == "linear":
        return products_of(xp, x, x.T)
    return xp.exp(-squared_distances(xp, x) / (2 * sigma**2))


def _ranked(xp, products, itself):
    """All others of each, the nearest first."""
    own = xp.eye(len(products), dtype=bool)
    return xp.argsort(-(products if itself else xp.where(own, -xp.inf, products)), axis=1)


def _is_near(xp, products, k, itself):
    place = xp.argsort(_ranked(xp, products, itself), axis=1)
    return (place < k).astype(products.dtype)


def _hsic(xp, a, b, unbiased):
    n = len(a)
    ones = xp.ones(n, a.dtype)
    # Sums of sums of N numbers: in one of N x N float32 loses a digit or two.
    rows = lambda z: products_of(xp, z, ones)
    if not unbiased:
        centring = xp.eye(n, dtype=a.dtype) - 1 / n
        a, b = (products_of(xp, centring, z) for z in (a, b))
        return rows(a * b.T).sum()
    off = 1 - xp.eye(n, dtype=a.dtype)
    # A constant added to either is no difference, but for what cancels: there it costs digits.
    a, b = ((z - rows(z * off).sum() / (n * (n - 1))) * off for z in (a, b))
    total = rows(a * b.T).sum() + rows(a).sum() * rows(b).sum() / ((n - 1) * (n - 2))
    return (total - 2 * (rows(a.T) * rows(b)).sum() / (n - 2)) / (n * (n - 3))


def _aligned(xp, a, b, own_a, own_b, unbiased, epsilon):
    scale = _hsic(xp, own_a, own_a, unbiased) * _hsic(xp, own_b, own_b, unbiased)
    found = _hsic(xp, a, b, unbiased) / (xp.sqrt(xp.where(scale > 0, scale, 1)) + epsilon)
    return xp.asarray(xp.where(scale > 0, found, xp.nan))
