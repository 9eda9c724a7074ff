"""Where a run is computed: over a mesh of devices, several seeds at the same time, in parts."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from crossattn.data.batches import WHOLE, Batch, Share
from crossattn.shapes import Array
from crossattn.sharding import (
    BATCH_AXES,
    ContextParallel,
    assert_placed,
    create,
    partition,
    place_batch,
)
from crossattn.train.chunks import Chunking
from crossattn.train.run import Run
from crossattn.train.step import State

SEED, CONTEXT, TENSOR = "seed", "context", "tensor"


class ParallelismError(ValueError):
    """A run does not fit over the devices."""


# Evaluation takes one seed after the other, so that all axes but those of a model split its rows:
# seed last, so that the rows of a device lie among those that it has in training.
EVALUATION_AXES = (*BATCH_AXES, SEED)


@dataclasses.dataclass(frozen=True)
class Parallelism:
    """How runs lie over devices and time; but for rounding it changes no result.

    It is therefore no part of a `Run`: what began on one mesh goes on on another.

    Attributes:
      mesh: of `crossattn.sharding.make_mesh`; None computes on JAX's default device.
      accumulate: parts that a batch is computed in, one after the other: memory for time.
      chunking: without a mesh, how programs make several steps; None: each step is a program.

    Example:
      >>> Parallelism().rules, Parallelism().seeds
      ('replicated', 1)
    """

    mesh: Mesh | None = None
    accumulate: int = 1
    chunking: Chunking | None = None

    def size(self, *axes: str) -> int:
        """Devices along some axes of the mesh together."""
        shape = self.mesh.shape if self.mesh else {}
        return int(np.prod([shape.get(axis, 1) for axis in axes]))

    @property
    def seeds(self) -> int:
        """How many seeds are trained at the same time."""
        return self.size(SEED)

    @property
    def rules(self) -> str:
        """The preset of rules that splits parameters over the axes that the mesh has for them."""
        used = [axis for axis in ("fsdp", TENSOR) if self.size(axis) > 1]
        return "+".join(used) or "replicated"

    def layout(self, run: Run) -> ContextParallel | None:
        """How the tokens of an attention lie over the axis context; None where it has one device.

        Heads lie over tensor as the rules split their projections, where they divide.
        """
        if self.mesh is None or self.size(CONTEXT) == 1:
            return None
        heads = () if run.model.heads % self.size(TENSOR) else (TENSOR,)
        return ContextParallel(self.mesh, CONTEXT, batch=BATCH_AXES, heads=heads)

    @property
    def _leading(self) -> str | None:
        return SEED if self.seeds > 1 else None

    @property
    def _on(self) -> Mesh:
        """The mesh of a run that has one."""
        assert self.mesh is not None
        return self.mesh

    def check(self, run: Run) -> None:
        """Make sure that the batches of a run divide.

        Raises:
          ParallelismError: they do not; says by what.
        """
        texts, shards = run.texts_together, self.size(*BATCH_AXES)
        if self.accumulate < 1:
            raise ParallelismError(f"--accumulate must be at least 1, got {self.accumulate}")
        if self.accumulate > 1 and run.loss.compares:
            said = "loss: images are compared with all captions of a batch, which --accumulate "
            raise ParallelismError(f"{said}{self.accumulate} takes apart: leave it at 1")
        if run.batch_size % (unit := texts * shards * self.accumulate):
            raise ParallelismError(
                f"batch_size {run.batch_size} does not divide by {unit}: {texts} texts of "
                f"{'a row' if run.data.packing else 'an image'} x {shards} devices along "
                f"{' and '.join(BATCH_AXES)} x {self.accumulate} parts"
            )

    def share(self) -> Share:
        """Which part of each batch this process reads.

        Raises:
          ParallelismError: its devices hold rows that are no neighbours.
        """
        if self.mesh is None or self.seeds > 1:
            return WHOLE
        shards = self.size(*BATCH_AXES)
        rows = NamedSharding(self.mesh, PartitionSpec(BATCH_AXES))
        places = rows.addressable_devices_indices_map((shards,)).values()
        mine = sorted({place[0].start or 0 for place in places if place is not None})
        first, count = mine[0], len(mine)
        if mine != list(range(first, first + count)) or first % count or shards % count:
            raise ParallelismError(
                f"process {jax.process_index()} holds the parts {mine} of {shards} of a batch: "
                "write an axis that divides by the number of processes"
            )
        return Share(first // count, shards // count)

    def creator(self, init: Callable[..., State], *, together: bool) -> Callable[..., State]:
        """`init(seed, batch)` as a program that creates the state where it belongs.

        With `together` of an array of seeds, as many as `seeds`, where these are several.
        """
        if self.mesh is None:
            return jax.jit(init)
        leading = self._leading if together else None
        made = jax.vmap(init, in_axes=(0, None)) if leading else init

        def place(seed: Any, batch: Batch) -> State:
            # Of the batch only the shapes are read, and processes have different rows.
            empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), batch)
            state = create(made, self._on, self.rules, seed, empty, leading=leading)
            try:
                assert_placed(state, self._on, self.rules, leading=leading)
            except AssertionError as error:
                raise ParallelismError(str(error)) from None
            return state

        return place

    def stepper(self, step: Callable[..., Any], steps: int) -> Callable[..., Any]:
        """`step(state, batch, learning_rate)` as a program that keeps the state where it is.

        Several seeds are one program over a leading axis; a seed that has made its `steps` waits
        unchanged for the others.
        """
        if self.mesh is None:
            return jax.jit(step, donate_argnums=0)
        mesh, leading = self.mesh, self._leading
        constrain = jax.lax.with_sharding_constraint

        def update(state: State, batch: Batch, rate: Any) -> tuple[State, Any]:
            batch = batch._replace(images=self._along_context(batch.images))
            new, metrics = (jax.vmap(step) if leading else step)(state, batch, rate)
            if leading:
                keep = functools.partial(_where, state.step < steps)
                new = jax.tree.map(keep, new, state)
            new = constrain(new, partition(new, mesh, self.rules, leading=leading).shardings)
            return new, constrain(metrics, NamedSharding(mesh, PartitionSpec()))

        return self._within(jax.jit(update, donate_argnums=0))

    def evaluator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function(params, batch, visible)` as a program whose results all processes can read."""
        if self.mesh is None:
            return jax.jit(function)
        whole = NamedSharding(self.mesh, PartitionSpec())
        program = self._within(jax.jit(function, out_shardings=whole))

        def place(params: Any, batch: Batch, visible: Any) -> Any:
            rows = jax.tree.map(lambda leaf: self._put(leaf, EVALUATION_AXES), batch)
            return program(params, rows, self._put(visible, None, EVALUATION_AXES))

        return place

    def shardings(self, state: State) -> Any:
        """Where each array of a state, or of its shapes, belongs."""
        if self.mesh is None:
            place = SingleDeviceSharding(jax.devices()[0])
            return jax.tree.map(lambda leaf: place, state)
        return partition(state, self.mesh, self.rules).shardings

    def place(self, batches: Sequence[Batch]) -> Batch:
        """One global batch from what this process read for each of the seeds."""
        if self.mesh is None:
            return batches[0]
        if self.seeds == 1:
            return place_batch(batches[0], self.mesh)
        every = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        return jax.tree.map(lambda leaf: self._put(leaf, SEED, BATCH_AXES), every)

    def take(self, states: State, seed: int) -> State:
        """The state of one of the seeds that are trained at the same time."""
        return self._take(states, np.int32(seed)) if self.seeds > 1 else states

    def put(self, states: State, seed: int, state: State) -> State:
        """All states, with that of one seed replaced."""
        return self._put_state(states, np.int32(seed), state) if self.seeds > 1 else state

    @functools.cached_property
    def _take(self) -> Callable[..., State]:
        def take(states: State, seed: Array) -> State:
            one = jax.tree.map(lambda leaf: leaf[seed], states)
            return jax.lax.with_sharding_constraint(one, self.shardings(one))

        return jax.jit(take)

    @functools.cached_property
    def _put_state(self) -> Callable[..., State]:
        def put(states: State, seed: Array, state: State) -> State:
            new = jax.tree.map(lambda leaf, one: leaf.at[seed].set(one), states, state)
            plan = partition(new, self._on, self.rules, leading=SEED)
            return jax.lax.with_sharding_constraint(new, plan.shardings)

        return jax.jit(put, donate_argnums=0)

    def _put(self, array: np.ndarray, *spec: Any) -> Array:
        """An array that every process has whole, each device holding its part."""
        array = np.asarray(array)
        sharding = NamedSharding(self._on, PartitionSpec(*spec))
        return jax.make_array_from_callback(array.shape, sharding, lambda place: array[place])

    def _along_context(self, images: Array) -> Array:
        """Patches (..., I, P, F) over the axis context too, where they divide; not pictures."""
        front = 2 if self._leading else 1
        if images.ndim != front + 2 or images.shape[front] % self.size(CONTEXT):
            return images
        spec = PartitionSpec(*([self._leading] if self._leading else []), BATCH_AXES, CONTEXT)
        return jax.lax.with_sharding_constraint(images, NamedSharding(self._on, spec))

    def _within(self, program: Callable[..., Any]) -> Callable[..., Any]:
        """A program that is traced knowing the mesh: takes no kernel that JAX cannot partition."""

        def call(*arguments: Any) -> Any:
            with jax.set_mesh(self.mesh):
                return program(*arguments)

        return call


SINGLE_DEVICE = Parallelism()


def _where(running: Array, new: Array, old: Array) -> Array:
    """The new values of the seeds that are running."""
    return jnp.where(running.reshape(-1, *[1] * (new.ndim - 1)), new, old)
