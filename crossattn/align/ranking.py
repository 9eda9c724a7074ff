"""Orders: patches by falling weight, and whether two orders agree; ties are kept together."""

import numpy as np
import scipy

from crossattn.shapes import Bool, Float, Int

__all__ = ["kendall_tau", "ranked_region", "spearman_rho"]


def ranked_region(
    weights: Float[np.ndarray, "... P"], region: Bool[np.ndarray, "... P"]
) -> tuple[
    Bool[np.ndarray, "... P"],
    Int[np.ndarray, "... P"],
    Int[np.ndarray, "... P"],
]:
    """The region in order of falling weight, and the places where each tie begins and ends.

    Example:
      >>> ranked_region(np.array([0.2, 0.5, 0.2, 0.1]), np.array([True, False, False, True]))[1:]
      (array([0, 1, 1, 3]), array([0, 2, 2, 3]))
    """
    order = np.argsort(-weights, axis=-1, kind="stable")
    ranked = np.take_along_axis(weights, order, axis=-1)
    place = np.broadcast_to(np.arange(ranked.shape[-1]), ranked.shape)
    edge = ranked[..., 1:] != ranked[..., :-1]
    always = np.ones((*ranked.shape[:-1], 1), bool)
    begins, ends = np.concatenate([always, edge], -1), np.concatenate([edge, always], -1)
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=-1)
    back = np.where(ends, place, ranked.shape[-1])[..., ::-1]
    last = np.minimum.accumulate(back, axis=-1)[..., ::-1]
    return np.take_along_axis(region, order, axis=-1), first, last


def kendall_tau(
    x: Float[np.ndarray, "*rest N"], y: Float[np.ndarray, "*rest N"]
) -> Float[np.ndarray, "*rest"]:
    """Kendall's tau-b (1938, 1945), along the last axis; NaN where one side is constant.

    Example:
      >>> kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).round(3).tolist()
      0.333
    """
    first, second = np.triu_indices(x.shape[-1], 1)
    return _cosine(*(np.sign(side[..., first] - side[..., second]) for side in (x, y)))


def spearman_rho(
    x: Float[np.ndarray, "*rest N"], y: Float[np.ndarray, "*rest N"]
) -> Float[np.ndarray, "*rest"]:
    """Spearman's rho (1904), along the last axis, ties shared; NaN where one side is constant.

    Example:
      >>> spearman_rho(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])).round(3).tolist()
      0.5
    """
    middle = (x.shape[-1] + 1) / 2
    return _cosine(*(scipy.stats.rankdata(side, axis=-1) - middle for side in (x, y)))


def _cosine(a, b):
    squared = (a * a).sum(-1) * (b * b).sum(-1)
    flat = squared == 0
    return np.asarray(np.where(flat, np.nan, (a * b).sum(-1) / np.sqrt(np.where(flat, 1, squared))))
