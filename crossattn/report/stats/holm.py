"""p-values and levels of several comparisons: Holm's procedure, Benjamini and Hochberg's."""

import numpy as np

from crossattn.shapes import Float, Int


def holm_adjusted(
    p: Float[np.ndarray, "*suites comparisons"],
) -> Float[np.ndarray, "*suites comparisons"]:
    """Holm's step-down adjusted p-values (Holm 1979), along the last axis.

    Example:
        >>> holm_adjusted(np.array([0.01, 0.04, 0.03])).tolist()
        [0.03, 0.06, 0.06]
    """
    order, rank = _order_and_rank(p)
    steps = p.shape[-1] - np.arange(p.shape[-1])
    ranked = np.take_along_axis(p, order, -1) * steps
    adjusted = np.minimum(1.0, np.maximum.accumulate(ranked, axis=-1))
    return np.take_along_axis(adjusted, rank, -1)


def holm_levels(
    p: Float[np.ndarray, "*suites comparisons"], *, alpha: float
) -> Float[np.ndarray, "*suites comparisons"]:
    """The level at which Holm's procedure tests each comparison.

    The k-th smallest of m p-values (k from 0) is tested at alpha / (m - k); after the first that is
    not rejected the procedure stops, and all that remain share the level of that step.

    Example:
        >>> holm_levels(np.array([0.001, 0.9, 0.03]), alpha=0.06).round(3).tolist()
        [0.02, 0.03, 0.03]
    """
    _, rank = _order_and_rank(p)
    rejected = (holm_adjusted(p) < alpha).sum(-1, keepdims=True)
    return alpha / (p.shape[-1] - np.minimum(rank, rejected))


def _order_and_rank(
    p: np.ndarray,
) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
    order = np.argsort(p, axis=-1, kind="stable")
    return order, np.argsort(order, axis=-1, kind="stable")


def bh_adjusted(
    p: Float[np.ndarray, "*suites comparisons"],
) -> Float[np.ndarray, "*suites comparisons"]:
    """Adjusted p-values of Benjamini & Hochberg (1995), along the last axis.

    What is below alpha has a share of false findings of at most alpha, in expectation: for long
    lists of exploratory comparisons. Winners are named by Holm's procedure.

    Example:
        >>> bh_adjusted(np.array([0.01, 0.04, 0.03])).round(3).tolist()
        [0.03, 0.04, 0.04]
    """
    order, rank = _order_and_rank(p)
    steps = p.shape[-1] / np.arange(1, p.shape[-1] + 1)
    ranked = np.take_along_axis(p, order, -1) * steps
    adjusted = np.minimum.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1]
    return np.take_along_axis(np.minimum(1.0, adjusted), rank, -1)
