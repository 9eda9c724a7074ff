"""Benchmark `length`: what one key costs, from short contexts to long ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax

import crossattn

from ..cases import Case
from ..timing import Program, jax_program
from ..truth import Truth
from .attention import first_keys, inputs, with_gradients

SIZES = (4096, 16384, 65536, 262144, 1048576)
# Forward and backward of more keys than this would need 10 GB for keys, values and gradients.
LONGEST_BACKWARD = 262144
# A run makes as many calls as read this many keys, so that short contexts are not timed in a blink.
KEYS_IN_A_RUN = 65536


def prepare(case: Case) -> Callable[[str], Program]:
    """A function that builds a contestant by its name, which is its number of keys."""
    longest = max(map(int, case.contestants))
    arrays = inputs(dataclasses.replace(case, shape=dataclasses.replace(case.shape, S=longest)))
    function = functools.partial(crossattn.attention, implementation=case.implementation)
    call = with_gradients(function) if case.direction == "backward" else function

    def build(name: str) -> Program:
        keys = int(name)
        fewer = first_keys(arrays, keys)
        truth = Truth.of(*fewer)
        return jax_program(
            lambda *a: jax.tree.leaves(call(*a)),
            *fewer,
            error=truth.error,
            units=keys,
            calls=max(1, KEYS_IN_A_RUN // keys),
        )

    return build
