"""How many steps and seeds a program takes, as was asked for and as fits in memory."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax

from crossattn.data.batches import TrainingRecords
from crossattn.data.examples import Examples
from crossattn.train.chunks import Chunking, OnDevice, chunk_length
from crossattn.train.loop import TrainPrograms
from crossattn.train.memory import (
    activation_bytes,
    default_device,
    device_bytes,
    jobs_on_device,
    tree_bytes,
)
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.source import batches_of

# Steps of a program on an accelerator, at most.
STEPS = 50
# Of a device's memory: of what is counted, and of data that stay there.
FILLED, DATA = 0.8, 0.4
# A state, its update, and the copies that checkpoints are written from.
STATES = 3


@dataclasses.dataclass(frozen=True)
class Grouping:
    """What was asked for.

    Attributes:
      steps: of a program; "auto": one on a CPU, elsewhere `STEPS`.
      seeds: whether the seeds of a variant are trained together; "auto": not on a CPU, elsewhere
        as many as fit in memory.

    Raises:
      ParallelismError: a program makes at least one step.
    """

    steps: int | Literal["auto"] = "auto"
    seeds: Literal["auto", "true", "false"] = "auto"

    def __post_init__(self):
        if self.steps != "auto" and self.steps < 1:
            raise ParallelismError(f"--steps-per-program must be at least 1, got {self.steps}")

    def check(self, parallel: Parallelism) -> None:
        """Make sure that what was asked for is for these devices.

        Raises:
          ParallelismError: it is not.
        """
        if parallel.mesh is not None and (self.steps not in ("auto", 1) or self.seeds == "true"):
            raise ParallelismError(
                "--steps-per-program and --seeds-together are for a device that trains a variant "
                "by itself: leave out --mesh and --distributed, or train as many seeds at a time "
                "as the mesh has devices with --mesh seed=N"
            )

    def plan(
        self, programs: TrainPrograms, train: Examples | TrainingRecords, seeds: Sequence[int]
    ) -> "Plan":
        """How seeds of a variant are trained on this thread's device, or on the mesh."""
        on_cpu = _platform() == "cpu"
        steps = (1 if on_cpu else STEPS) if self.steps == "auto" else self.steps
        # Those before count, too: groups are the same when some of their seeds are finished.
        total, at_once = max(seeds) + 1, programs.parallel.seeds
        alone = self.seeds == "false" or (self.seeds == "auto" and on_cpu) or total == 1
        if programs.parallel.mesh is not None or (steps == 1 and alone):
            starts = range(0, len(seeds), at_once)
            return Plan(None, [list(seeds[start : start + at_once]) for start in starts])
        need, have = Need.of(programs, train), int(FILLED * device_bytes()) // jobs_on_device()
        resident = isinstance(train, Examples) and need.data <= DATA * have
        free = have - need.data * resident
        fit = 1 if alone else total if self.seeds == "true" else max(1, free // need.seed)
        # Groups of nearly the same size: a program is compiled for each size.
        size = -(-total // -(-total // min(fit, total)))
        groups = groups_of(seeds, size)
        chunking = Chunking(steps, max(map(len, groups)), resident)
        length = chunk_length(programs.run, steps)
        said = f"{describe_grouping(chunking.seeds, length)}; {need.words(chunking, have)}"
        return Plan(chunking, groups, said)


AUTO = Grouping()


class Plan(NamedTuple):
    """How seeds of a variant are trained.

    Attributes:
      chunking: what its programs do; None where each step of a seed is a program.
      groups: seeds that are trained at the same time.
      words: how and why, for people; "" where each step is a program.
    """

    chunking: Chunking | None
    groups: list[list[int]]
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Need:
    """Bytes that a variant needs on a device, estimated from shapes.

    Attributes:
      data: of the training data; 0 where they are read while a run trains.
      state: of one seed, the optimizer's included.
      activations: of one seed, that a step keeps for its backward pass.
    """

    data: int
    state: int
    activations: int

    @classmethod
    def of(cls, programs: TrainPrograms, train: Examples | TrainingRecords) -> "Need":
        """Nothing is compiled or computed."""
        batch = batches_of(programs.run, train, 0).batch(0)
        state = jax.eval_shape(programs.create, 0, batch)
        arrays = [getattr(train, name, None) for name in OnDevice._fields]
        kept = activation_bytes(programs.model, state.params, batch, programs.run.loss)
        return cls(
            tree_bytes(arrays) if isinstance(train, Examples) else 0,
            tree_bytes(state),
            kept // programs.parallel.accumulate,
        )

    @property
    def seed(self) -> int:
        """All of one seed."""
        return STATES * self.state + self.activations

    def words(self, chunking: Chunking, have: int) -> str:
        """What is needed beside what may be used."""
        total = chunking.seeds * self.seed + chunking.resident * self.data
        where = "on the device" if chunking.resident else "sent with every dispatch"
        return (
            f"about {_megabytes(total)} of {_megabytes(have)} MB: a seed {STATES} x "
            f"{_megabytes(self.state)} for its state and {_megabytes(self.activations)} for "
            f"activations, data {_megabytes(self.data)} {where}"
        )


def describe_grouping(seeds: int, steps: int) -> str:
    """How seeds of a variant were trained, for a report.

    Example:
      >>> describe_grouping(5, 50)
      '5 seeds of a variant in one program, 50 steps per dispatch'
      >>> describe_grouping(1, 1)
      'one at a time, through one compiled program per variant'
    """
    if max(seeds, steps) == 1:
        return "one at a time, through one compiled program per variant"
    together = "one seed" if seeds == 1 else f"{seeds} seeds"
    dispatch = "one step" if steps == 1 else f"{steps} steps"
    return f"{together} of a variant in one program, {dispatch} per dispatch"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.{0 if count >= 1e8 else 1 if count >= 1e6 else 3}f}"


def _platform() -> str:
    return default_device().platform


def groups_of(seeds: Sequence[int], size: int) -> list[list[int]]:
    """Seeds by the group that they are trained in: a matter of their number, not of who is left.

    A group that goes on after an interruption is so the same group, and gives the same bits.

    Example:
      >>> groups_of([1, 2, 3, 4], 3)
      [[1, 2], [3, 4]]
    """
    by_group: dict[int, list[int]] = {}
    for seed in seeds:
        by_group.setdefault(seed // size, []).append(seed)
    return list(by_group.values())
