"""Benchmark `masks`: what a masked call costs, beside the call on its visible keys only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import crossattn
from crossattn import Mask

from ..cases import Case, Shape
from ..timing import Program, jax_program
from ..truth import Truth
from .attention import first_keys, inputs, with_gradients

EVERYTHING = "no mask"
PARTS = 8
SEGMENT = 3


@dataclasses.dataclass(frozen=True)
class Kind:
    """A mask twice: as the symbolic one that is timed, and as what it should mean.

    Attributes:
      arrays: what would come with the data; all else is known when the call is compiled.
      mask: makes the `Mask` of these arrays.
      visible: (rows, example) -> booleans (rows|1, S).
      keys: how many keys a query sees, on average.
    """

    arrays: tuple[np.ndarray, ...]
    mask: Callable[..., Mask]
    visible: Callable[[np.ndarray, int], np.ndarray]
    keys: float


def _lengths(lengths: np.ndarray, S: int) -> Kind:
    return Kind(
        (lengths.astype(np.int32),),
        lambda key: Mask.lengths(key=key),
        lambda rows, b: np.arange(S)[None] < lengths[b],
        float(lengths.mean()),
    )


def _keys(seen: np.ndarray) -> Kind:
    return Kind((seen[None],), Mask.keys, lambda rows, b: seen[None], float(seen.sum()))


def _window(shape: Shape) -> Kind:
    """Each query sees the S / 8 keys around its place, the queries stand in the middle."""
    T, S = shape.T, shape.S
    left = S // PARTS // 2
    right, offset = S // PARTS - left - 1, (S - T) // 2

    def visible(rows, b):
        place, keys = rows[:, None] + offset, np.arange(S)[None]
        return (keys >= place - left) & (keys <= place + right)

    seen = visible(np.arange(T), 0).sum(1).mean()
    return Kind((), lambda: Mask.window(left, right, offset), visible, float(seen))


def _packed(n: int) -> np.ndarray:
    return np.arange(n) * PARTS // n


def _segments(query: np.ndarray, key: np.ndarray) -> Kind:
    return Kind(
        (query[None].astype(np.int32), key[None].astype(np.int32)),
        Mask.segments,
        lambda rows, b: query[rows, None] == key[None],
        float(np.mean([(key == i).sum() for i in query])),
    )


def _causal(shape: Shape) -> Kind:
    return Kind(
        (),
        lambda: Mask.causal(0),
        lambda rows, b: rows[:, None] >= np.arange(shape.S)[None],
        (shape.S + 1) / 2,
    )


RAGGED = "ragged lengths, 1/8 to 1"
KINDS: dict[str, Callable[[Shape, np.random.Generator], Kind]] = {
    "lengths, first 1/8": lambda shape, rng: _lengths(np.array([shape.S // PARTS]), shape.S),
    "lengths, first 1/2": lambda shape, rng: _lengths(np.array([shape.S // 2]), shape.S),
    "keys, first 1/2": lambda shape, rng: _keys(np.arange(shape.S) < shape.S // 2),
    "keys, scattered 1/2": lambda shape, rng: _keys(rng.permutation(shape.S) < shape.S // 2),
    "window of 1/8": lambda shape, rng: _window(shape),
    "segments, queries in 1 of 8": lambda shape, rng: _segments(
        np.full(shape.T, SEGMENT), _packed(shape.S)
    ),
    "segments, 8 packed": lambda shape, rng: _segments(_packed(shape.T), _packed(shape.S)),
    "causal": lambda shape, rng: _causal(shape),
    RAGGED: lambda shape, rng: _lengths(
        rng.integers(shape.S // PARTS, shape.S, shape.B, endpoint=True), shape.S
    ),
}
SQUARE = ("causal",)
NO_MASK = Kind((), Mask, lambda rows, b: np.array([[True]]), 0.0)


def kind(name: str, case_shape: Shape, seed: int) -> Kind:
    """A kind of mask for a shape."""
    return KINDS[name](case_shape, np.random.default_rng([seed, 8]))


def visible_only(keys: float) -> str:
    """Name of the contestant that has so many keys and no mask."""
    return f"{max(1, round(keys))} keys alone"


def contestants(shape: Shape, seed: int) -> tuple[list[str], dict[str, str]]:
    """(names, what each is compared with) for a shape: its masks, or ragged ones for a batch."""
    if shape.B > 1:
        return [EVERYTHING, RAGGED], {}
    kinds = [n for n in KINDS if n != RAGGED and (n not in SQUARE or shape.T == shape.S)]
    beside = {n: visible_only(kind(n, shape, seed).keys) for n in kinds}
    alone = list(dict.fromkeys(beside.values()))
    return [EVERYTHING, *alone, *kinds], beside | {n: n for n in alone}


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name."""
    arrays = inputs(case)

    def build(name: str) -> Program:
        if name in KINDS:
            return _program(case, arrays, kind(name, case.shape, case.seed))
        keys = case.shape.S if name == EVERYTHING else int(name.split()[0])
        return _program(case, first_keys(arrays, keys), NO_MASK)

    return build


def _program(case: Case, arrays: list[jax.Array], chosen: Kind) -> Program:
    truth = Truth.of(*arrays, visible=chosen.visible)
    leaves = [jnp.asarray(x) for x in chosen.arrays]

    def call(leaves: Any, *arrays: Any) -> Any:
        def attend(q, k, v):
            return crossattn.attention(
                q, k, v, mask=chosen.mask(*leaves), implementation=case.implementation
            )

        function = with_gradients(attend) if case.direction == "backward" else attend
        return jax.tree.leaves(function(*arrays))

    return jax_program(call, leaves, *arrays, error=truth.error)
