"""The programs that a run compiles, from shapes alone, and where their arrays lie on a mesh."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn.data.batches import Batch, gather
from crossattn.sharding import Partition, batch_sharding, partition
from crossattn.train import loop
from crossattn.train.evaluate import ROWS_PER_BATCH, Evaluator
from crossattn.train.parallel import Parallelism
from crossattn.train.run import Run, replace
from crossattn.train.source import batches_of, load_dataset
from crossattn.train.step import State

STEPS = {"train": "training", "evaluation": "evaluation"}
PLANNED = ("data", "fsdp", "context", "tensor")
# Generated scenes differ in nothing that a shape depends on; reading them all takes minutes.
ENOUGH_SCENES = 100


@dataclasses.dataclass(frozen=True)
class ProgramSizes:
    """What the shapes of a run's programs depend on beside its settings.

    Attributes:
      words: of the vocabulary.
      train: shapes of a training batch.
      evaluation: shapes of an evaluation batch, that has one text for each image.
    """

    words: int
    train: Batch
    evaluation: Batch

    def to_json(self) -> dict[str, Any]:
        """For the process that compiles.

        Example:
          >>> leaf = jax.ShapeDtypeStruct((2, 3), "int32")
          >>> sizes = ProgramSizes(5, Batch(*[leaf] * 5), Batch(*[leaf] * 6))
          >>> ProgramSizes.from_json(sizes.to_json()) == sizes
          True
        """
        said = lambda leaf: None if leaf is None else [list(leaf.shape), str(leaf.dtype)]
        batches = {"train": self.train, "evaluation": self.evaluation}
        return {"words": self.words} | {n: [said(x) for x in b] for n, b in batches.items()}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ProgramSizes:
        """What `to_json` made."""
        read = lambda leaf: None if leaf is None else jax.ShapeDtypeStruct(tuple(leaf[0]), leaf[1])
        batches = (Batch(*map(read, content[name])) for name in ("train", "evaluation"))
        return cls(content["words"], *batches)


def program_sizes(run: Run) -> ProgramSizes:
    """Read as little of a run's data as tells their shapes.

    Raises:
      ValueError, ModuleNotFoundError, DataError: as `crossattn.train.source.load_dataset`.
    """
    small = run
    if run.data.source == "scenes" and run.model.image_encoder != "features":
        few = {"data.images": ENOUGH_SCENES, "data.evaluation_images": ENOUGH_SCENES}
        small = replace(run, few)
    source = load_dataset(small)
    texts = run.texts_together
    one = batches_of(replace(small, {"batch_size": texts}), source.train, 0).batch(0)
    row = Batch(**gather(source.splits[source.main], np.arange(1)))
    return ProgramSizes(
        len(source.vocabulary), _times(one, run.batch_size // texts), _times(row, ROWS_PER_BATCH)
    )


def _times(batch: Batch, count: int) -> Batch:
    """Shapes of so many batches side by side."""
    grown = lambda x: jax.ShapeDtypeStruct((count * x.shape[0], *x.shape[1:]), x.dtype)
    return jax.tree.map(grown, batch)


class Lowering(Parallelism):
    """PlannedPrograms of a run on a mesh of devices that are not here: called, they are lowered.

    Arrays are shapes. All else is training's own: what a run would compile there is what is lowered
    here, letter for letter.
    """

    def _put(self, array: Any, *spec: Any) -> Any:
        assert self.mesh
        sharding = NamedSharding(self.mesh, PartitionSpec(*spec))
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)

    def _within(self, program: Any) -> Callable[..., Any]:
        def lower(*arguments: Any) -> Any:
            with jax.set_mesh(self.mesh):
                return program.lower(*arguments)

        return lower


class PlannedPrograms:
    """The training step and the evaluation step of a run, not yet compiled.

    Attributes:
      model: what is trained.
      state: shapes of the state.
      step: the training step, of one device.
    """

    def __init__(self, run: Run, sizes: ProgramSizes):
        self.sizes = sizes
        # What parameters start with changes no program.
        run = dataclasses.replace(run, initial="")
        here = loop.TrainPrograms(run, sizes.words)
        self.run, self.model, self.step = run, here.model, here.step
        self.state: State = jax.eval_shape(here.create, 0, sizes.train)

    def plan(self, mesh: Mesh) -> Partition:
        """Where the state lies on a mesh."""
        return partition(self.state, mesh, Lowering(mesh).rules)

    def lower_step(self, mesh: Mesh) -> Any:
        """The training step of `crossattn.train.loop` on a mesh, lowered.

        Raises:
          ParallelismError: the batch does not divide over the mesh.
        """
        rate = _placed(jax.ShapeDtypeStruct((), jnp.float32), NamedSharding(mesh, PartitionSpec()))
        state = jax.tree.map(_placed, self.state, self.plan(mesh).shardings)
        rows = jax.tree.map(lambda x: _placed(x, batch_sharding(mesh)), self.sizes.train)
        return self._there(mesh).step(state, rows, rate)

    def lower_evaluation(self, mesh: Mesh) -> Any:
        """The program of `crossattn.train.evaluate` on a mesh, lowered; it writes texts, too."""
        there = self._there(mesh)
        evaluator = Evaluator(there.model, there.parallel)
        fill = lambda x: jax.ShapeDtypeStruct((evaluator.rows, *x.shape[1:]), x.dtype)
        batch = jax.tree.map(fill, self.sizes.evaluation)
        patches = batch.coverage.shape[-1]
        visible = jax.ShapeDtypeStruct((evaluator.layers, evaluator.rows, patches), bool)
        params = jax.tree.map(_placed, self.state.params, self.plan(mesh).shardings.params)
        # Adapters are in the kernels by then.
        return evaluator.program({"params": params["params"]}, batch, visible)

    def _there(self, mesh: Mesh) -> loop.TrainPrograms:
        return loop.TrainPrograms(self.run, self.sizes.words, Lowering(mesh))


def _placed(leaf: Any, sharding: Any) -> Any:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def check_mesh(run: Run, shape: Mapping[str, int]) -> None:
    """Make sure that a plan knows the axes of a mesh, and that the images of a batch divide.

    Raises:
      ValueError: with a batch size that does.

    Example:
      >>> check_mesh(Run(batch_size=12), {"data": 2, "fsdp": 2})
      Traceback (most recent call last):
      ValueError: 6 images of a batch do not divide over data x fsdp = 4: take --batch-size 16
    """
    if others := [axis for axis in shape if axis not in PLANNED and shape[axis] > 1]:
        raise ValueError(f"a plan is for {', '.join(PLANNED)}; leave out {' and '.join(others)}")
    texts, parts = run.texts_together, shape["data"] * shape["fsdp"]
    images = run.batch_size // texts
    if images % parts:
        fitting = -(-images // parts) * parts * texts
        raise ValueError(
            f"{images} images of a batch do not divide over data x fsdp = {parts}: "
            f"take --batch-size {fitting}"
        )
