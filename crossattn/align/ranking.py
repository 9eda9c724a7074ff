"""Patches in order of falling weight, ties together."""

import numpy as np

from crossattn.shapes import Bool, Float, Int

__all__ = ["ranked_region"]


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
