"""Several steps of one seed, or of several, in one program: one dispatch instead of many.

On an accelerator a small step takes less time than its dispatch and the transfer of its batch.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.data.batches import Batch, Batches, Picked, flip, gather
from crossattn.shapes import Array
from crossattn.train.memory import default_device
from crossattn.train.run import Run
from crossattn.train.seat import Seated
from crossattn.train.step import State


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How much one program does.

    Attributes:
      steps: that it makes, at most; see `chunk_length`.
      seeds: that it trains together, at most.
      resident: whether the training data lie on the device; else batches travel there.
    """

    steps: int = 1
    seeds: int = 1
    resident: bool = True


def chunk_length(run: Run, wanted: int) -> int:
    """Steps of a program: at most as many as wanted, and equal parts of those between checkpoints.

    Example:
      >>> chunk_length(Run(steps=800, checkpoint_every=200), 50)
      50
      >>> chunk_length(Run(steps=800, checkpoint_every=75), 50)
      38
    """
    period = min(run.checkpoint_every, run.steps)
    return -(-period // -(-period // wanted))


class OnDevice(NamedTuple):
    """The arrays of `Examples` that batches are gathered from, on a device."""

    image: Any
    tokens: Any
    target: Any
    grounded: Any
    images: Any
    coverage: Any
    boxes: Any
    shown: Any


class Chunks:
    """The programs of a variant that make `length` steps; one for each number of seeds.

    Steps, and their order of examples, are those of the program of one step. Seeds are an axis of
    `vmap`, so that they may differ by rounding from a seed alone, but not by which others run.

    Attributes:
      length: steps of a dispatch; a seed that comes to a checkpoint before waits there.
      program: (states, data, read, learning rates, ends) to states and metrics (length, seeds).
    """

    def __init__(self, run: Run, step: Callable[..., tuple[State, Any]], chunking: Chunking):
        self.run, self.resident = run, chunking.resident
        self.length = chunk_length(run, chunking.steps)
        self.program = jax.jit(functools.partial(self._advance, step), donate_argnums=0)
        self.take = jax.jit(lambda states, place: jax.tree.map(lambda leaf: leaf[place], states))
        self._join = jax.jit(lambda *states: jax.tree.map(lambda *x: jnp.stack(x), *states))
        self._data: tuple[Any, OnDevice] | None = None

    def join(self, states: Sequence[State]) -> State:
        """States with a leading axis of seeds; the only one without.

        Restored ones are committed to a device; all are here, or two programs would be compiled.
        """
        placed = jax.device_put(states, default_device())
        return placed[0] if len(placed) == 1 else self._join(*placed)

    def advance(self, states: State, seated: Sequence[Seated]) -> tuple[State, Any]:
        """The states of all seeds after the steps that they have planned, and the metrics."""
        data = self._on_device(seated[0].seat.batches) if self.resident else None
        read = [self._read(one) for one in seated]
        rates = np.array([one.learning_rate for one in seated])
        ends = np.array([one.until for one in seated], np.int32)
        if len(seated) == 1:
            return self.program(states, data, read[0], rates[0], ends[0])
        together = jax.tree.map(lambda *x: np.stack(x, axis=1), *read)
        return self.program(states, data, together, rates, ends)

    def _read(self, one: Seated) -> Any:
        """What the steps of a dispatch read: `Picked` or `Batch`, with a leading axis of steps."""
        pick = one.seat.batches.picked
        # Steps behind the end are computed and dropped.
        last = max(one.step, one.until - 1)
        steps = (min(one.step + index, last) for index in range(self.length))
        if self.resident:
            every: list[Any] = [pick(step) for step in steps]
        else:
            every = [one.batch() for _ in range(one.until - one.step)] or [one.batch()]
            every += [every[-1]] * (self.length - len(every))
        return jax.tree.map(lambda *x: np.stack(x), *every)

    def _on_device(self, batches: Batches) -> OnDevice:
        """The training data, put on the device once."""
        train = batches.train
        if self._data is None or self._data[0] is not train:
            arrays = (getattr(train, name) for name in OnDevice._fields)
            self._data = (train, OnDevice(*jax.device_put(tuple(arrays))))
        return self._data[1]

    def _advance(
        self,
        step: Callable[..., tuple[State, Any]],
        states: State,
        data: OnDevice | None,
        read: Any,
        rates: Array,
        ends: Array,
    ) -> tuple[State, Any]:
        def one(state: State, read: Any, rate: Array, end: Array) -> tuple[State, Any]:
            new, metrics = step(state, self._batch(data, read), rate)
            keep = functools.partial(jnp.where, state.step < end)
            return jax.tree.map(keep, new, state), metrics

        every = jax.vmap(one) if rates.ndim else one
        return jax.lax.scan(lambda state, x: every(state, x, rates, ends), states, read)

    def _batch(self, data: OnDevice | None, read: Picked | Batch) -> Batch:
        if isinstance(read, Batch):
            return read
        texts = self.run.data.texts_per_image
        arrays = gather(data, read.rows, texts_per_image=texts, pictures=read.pictures)
        if read.flipped is not None:
            assert self._data is not None
            arrays = flip(arrays, self._data[0].grid, read.flipped, jnp.where)
        return Batch(**arrays, packed=read.packed)
