"""The options that say over which devices and processes a command computes."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

import tyro
from jax.sharding import Mesh

from crossattn.sharding import axes_of, make_mesh
from crossattn.train import multihost
from crossattn.train.ablation import run_order
from crossattn.train.folder import Folder, pending
from crossattn.train.grouping import Grouping, describe_grouping
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.record import UNGROUPED
from crossattn.train.suite import Suite
from crossattn.train.tracing import ProfiledSteps, window_of

from . import lanes


@dataclasses.dataclass(frozen=True)
class Devices:
    """None of it is part of a run: what began on some devices goes on on others."""

    mesh: Annotated[
        str | None, tyro.conf.arg(metavar="AXES", help_behavior_hint="(default: a variant each)")
    ] = None
    """Split every run over the devices, as data=4,tensor=2 says, or seed=4 for 4 seeds at a time;
    axes: seed, data, fsdp, context, tensor; -1 takes the rest."""
    accumulate: int = 1
    """Compute each batch in so many parts, one after the other, which takes less memory."""
    steps_per_program: Annotated[
        int | Literal["auto"], tyro.conf.arg(help_behavior_hint="(default: auto)")
    ] = "auto"
    """Steps that one program makes, from data on the device, so that a dispatch is not the most of
    a small step; it then evaluates in one program, too. auto: 1 on a CPU, elsewhere up to 50."""
    seeds_together: Annotated[
        Literal["auto", "true", "false"], tyro.conf.arg(help_behavior_hint="(default: auto)")
    ] = "auto"
    """Whether the seeds of a variant are trained together in one program (vmap). auto: not on a
    CPU, elsewhere as many as fit in memory."""
    profile: Annotated[
        str | None, tyro.conf.arg(metavar="FIRST:LAST", help_behavior_hint="(default: none)")
    ] = None
    """Trace steps, as 10:13, of the first run that makes them, into its folder (JAX's profiler)."""
    distributed: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(metavar="[ADDRESS:PORT PROCESSES INDEX]", help_behavior_hint=""),
    ] = None
    """Train together with other processes of the same command, which share the folder: those that
    Slurm, a TPU slice or Open MPI tells of, or so many, of which this one is INDEX from 0."""

    @property
    def grouping(self) -> Grouping:
        """How much a program is asked to do.

        Raises:
          ParallelismError: it cannot be that.
        """
        return Grouping(self.steps_per_program, self.seeds_together)

    def window(self, suite: Suite) -> ProfiledSteps | None:
        """Steps that are traced.

        Raises:
          ProfileError: they are not those of a run.
        """
        return window_of(self.profile, suite.base.steps)

    def prepare(self, command: str = "ablate") -> None:
        """Join the other processes of a command, and let a CPU show the devices of the mesh.

        Raises:
          ParallelismError: the other processes cannot be found.
        """
        if self.distributed is None:
            show_devices(self.mesh)
            return
        try:
            multihost.initialize(command, self.distributed)
        except (ValueError, RuntimeError) as error:
            raise ParallelismError(" ".join(str(error).split())) from None

    def parallel(self, suite: Suite) -> Parallelism:
        """How the runs of a suite lie over the devices.

        Raises:
          ParallelismError: there are not so many devices, or batches do not divide over them.
          ProfileError: as `window`.
        """
        self.window(suite)
        mesh = None
        if self.mesh is not None or self.distributed is not None:
            mesh = mesh_of(self.mesh)
        parallel = Parallelism(mesh, self.accumulate)
        self.grouping.check(parallel)
        for variant in suite.variants:
            parallel.check(suite.run(variant))
        parallel.share()
        return parallel


def show_devices(axes: str | None) -> None:
    """Let a CPU show the devices of a mesh; one for each core where the line does not say."""
    sizes = [int(size) for size in re.findall(r"=\s*(\d+)", axes or "")]
    known = sizes and "-1" not in str(axes)
    lanes.prepare_cpu(math.prod(sizes) if known else None)


def mesh_of(axes: str | None) -> Mesh:
    """The mesh that `--mesh` describes.

    Raises:
      ParallelismError: there are no such axes, or not so many devices.
    """
    try:
        return make_mesh(axes)
    except ValueError as error:
        raise ParallelismError(f"--mesh: {error}") from None


def train_each(
    train: Callable[[str, list[int], Callable[[], None]], None],
    todo: list[tuple[str, list[int]]],
    parallel: Parallelism,
    *,
    stay: bool = False,
) -> None:
    """Train every variant: one per device, or one after the other over the whole mesh.

    `stay` is that of `run_lanes`.
    """
    if parallel.mesh is None:
        lanes.run_lanes(train, todo, stay=stay)
        return
    for variant, seeds in todo:
        train(variant, seeds, lambda: None)


def left_to_run(suite: Suite, folder: Folder, seeds: int) -> list[tuple[str, list[int]]]:
    """`pending` as process 0 sees it, in the order of `run_order`."""
    there = dict(pending(suite, folder, seeds))
    every = [(variant, seed) for variant in run_order(suite) for seed in range(seeds)]
    open_ = multihost.broadcast([seed in there.get(variant, []) for variant, seed in every])
    todo: dict[str, list[int]] = {}
    for (variant, seed), still in zip(every, open_, strict=True):
        if still:
            todo.setdefault(variant, []).append(seed)
    return list(todo.items())


@contextlib.contextmanager
def hold_folder(
    folder: Folder, command: str, prepare: Callable[[], None], *, name: str = "ablate"
) -> Iterator[None]:
    """The folder belongs to this command's processes, and `prepare` was called by the writer."""
    with (
        multihost.fail_together(folder.path / ".processes", name),
        contextlib.ExitStack() as stack,
    ):
        if multihost.is_writer():
            stack.enter_context(folder.hold(command))
            prepare()
        multihost.barrier("folder")
        yield


def describe_parallelism(parallel: Parallelism, groupings: Sequence[Mapping[str, int]]) -> str:
    """How seeds were trained, for a report: on a mesh, or as the runs say that there are.

    Example:
      >>> describe_parallelism(Parallelism(), [{"seeds": 5, "steps": 50}])
      '5 seeds of a variant in one program, 50 steps per dispatch'
    """
    if parallel.mesh is None:
        return "; ".join(describe_grouping(**one) for one in groupings or [UNGROUPED])
    return (
        f"{parallel.seeds} at a time, through one program per variant on {axes_of(parallel.mesh)}"
    )
