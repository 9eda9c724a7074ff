"""Masks that are measured on an accelerator: what hides keys, and how many a query sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn import Mask

from ..cases import Shape

RUNS = 8
Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Hiding:
    """One kind of mask, or a bias.

    Attributes:
      arrays: (shape, generator) -> what comes with the data.
      options: of `crossattn.attention`, from these arrays.
      keys: (shape, arrays) -> how many keys a query sees, on average.
    """

    arrays: Callable[[Shape, np.random.Generator], Arrays]
    options: Callable[..., dict[str, Any]]
    keys: Callable[[Shape, Arrays], float]


def _all(shape: Shape, arrays: Arrays) -> float:
    """No key is hidden from all queries: the call without a mask does the same work."""
    return float(shape.S)


def _counted(shape: Shape, arrays: Arrays) -> float:
    return float(arrays[0].sum() / shape.B)


def _half(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Booleans (B, S) of which half are True, in any order."""
    return rng.permuted(np.tile(np.arange(shape.S) < (shape.S + 1) // 2, (shape.B, 1)), axis=1)


def _runs(rows: int, n: int) -> np.ndarray:
    """Ids (rows, n) of neighbouring runs, from 0."""
    return np.tile((np.arange(n) * RUNS // n).astype(np.int32), (rows, 1))


def _segments(shape: Shape, rng: np.random.Generator) -> Arrays:
    return _runs(shape.B, shape.T), _runs(shape.B, shape.S)


def _unsorted(shape: Shape, rng: np.random.Generator) -> Arrays:
    query, key = (rng.permuted(ids, axis=1) for ids in _segments(shape, rng))
    return query, key


def _media(shape: Shape, rng: np.random.Generator) -> Arrays:
    """As many images as runs of text, each before its text."""
    query, key = _segments(shape, rng)
    return query + 1, key + 1


def _matching(shape: Shape, arrays: Arrays, sees: Callable[..., Any] = np.equal) -> float:
    query, key = (ids[0] for ids in arrays)
    return float(sees(query[:, None], key[None]).sum(1).mean())


KEYS = Hiding(lambda shape, rng: (_half(shape, rng),), lambda x: {"mask": Mask.keys(x)}, _counted)
HIDINGS: dict[str, Hiding] = {
    "lengths": Hiding(
        lambda shape, rng: (
            rng.integers(max(1, shape.S // RUNS), shape.S, shape.B, np.int32, endpoint=True),
        ),
        lambda x: {"mask": Mask.lengths(key=x)},
        _counted,
    ),
    "keys": KEYS,
    "one-row": dataclasses.replace(KEYS, options=lambda x: {"mask": Mask.dense(x[:, None, None])}),
    "segments": Hiding(_segments, lambda q, k: {"mask": Mask.segments(q, k)}, _matching),
    "segments-unsorted": Hiding(_unsorted, lambda q, k: {"mask": Mask.segments(q, k)}, _matching),
    "media-latest": Hiding(_media, lambda q, k: {"mask": Mask.media(q, k)}, _matching),
    "media-all": Hiding(
        _media,
        lambda q, k: {"mask": Mask.media(q, k, latest_only=False)},
        lambda shape, arrays: _matching(shape, arrays, np.greater_equal),
    ),
    "bias": Hiding(
        lambda shape, rng: (rng.standard_normal((1, 1, shape.T, shape.S), np.float32),),
        lambda x: {"bias": x},
        _all,
    ),
    "dense": Hiding(
        lambda shape, rng: (rng.random((1, 1, shape.T, shape.S)) < 0.5,),
        lambda x: {"mask": Mask.dense(x)},
        _all,
    ),
}


def hidden_arrays(name: str | None, shape: Shape, seed: int) -> Arrays:
    """The arrays of a mask for a shape; none without a mask."""
    return HIDINGS[name].arrays(shape, np.random.default_rng([seed, 5])) if name else ()


def written_out(name: str | None, shape: Shape, arrays: Arrays) -> dict[str, np.ndarray]:
    """What a library without symbolic masks is given: {mask} of booleans, {bias}, or {}."""
    options = HIDINGS[name].options(*map(jnp.asarray, arrays)) if name else {}
    if "mask" not in options:
        return {key: np.asarray(x) for key, x in options.items()}
    visible = options["mask"].visible(shape.B, shape.T, shape.S)
    return {"mask": np.asarray(jnp.broadcast_to(visible, (*visible.shape[:3], shape.S)))}
