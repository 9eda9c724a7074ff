"""The training loop: batch, step, log, save. It never waits for the step just dispatched."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.data.batches import Batch, Batches
from crossattn.train import step as steps
from crossattn.train.checkpoint import CheckpointError, Checkpoints
from crossattn.train.log import Log
from crossattn.train.optimizer import optimizer_of
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.restored import WITHOUT_DIGEST, Metrics
from crossattn.train.run import Run
from crossattn.train.step import State

LOG_EVERY = 10


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient became infinite or NaN."""


class TrainPrograms:
    """The compiled programs of one variant, shared by all its seeds.

    The seed is an argument of `create`. On one device each seed runs by itself: what is computed
    for a seed does not depend on which other seeds run. On a mesh with an axis seed several run at
    the same time, and their numbers may differ by rounding from those of a seed alone.
    """

    def __init__(self, run: Run, words: int, parallel: Parallelism = SINGLE_DEVICE):
        """Programs of a run whose vocabulary has `words` words.

        Raises:
          ParallelismError: the batches do not divide over the devices.
        """
        parallel.check(run)
        self.run, self.parallel = run, parallel
        self.model = steps.model_of(run, words, layout=parallel.layout(run))
        settings = run.optimizer
        optimizer = optimizer_of(settings, run.steps)
        create = functools.partial(
            steps.initial_state, self.model, optimizer, average=settings.ema > 0
        )
        step = functools.partial(
            steps.train_step,
            self.model,
            optimizer,
            parts=parallel.accumulate,
            label_smoothing=run.label_smoothing,
            ema=settings.ema,
            frozen=settings.frozen,
        )
        self.create = parallel.creator(create, together=False)
        self.create_all = self.create
        if parallel.seeds > 1:
            self.create_all = parallel.creator(create, together=True)
        self.step = parallel.stepper(step, run.steps)


def fit(
    programs: TrainPrograms,
    batches: Batches,
    folder: Path,
    *,
    learning_rate: float | None = None,
    progress: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    notify: Callable[[str], None] = lambda message: None,
) -> State:
    """Train one seed of one variant to its last step, from its newest checkpoint if there is one.

    Args:
      programs: compiled programs of the variant, for one seed at a time.
      batches: those of this seed.
      folder: gets `log.jsonl` and `checkpoints/`.
      learning_rate: that of the run of the programs when not given.
      progress: called after each step with the number of finished steps and the metrics of the
        step before.
      notify: called with what a user should know: a damaged checkpoint was passed over.

    Returns:
      The state after the last step.

    Raises:
      NonFiniteLossError: names the step and the last good checkpoint.
      CheckpointError: a checkpoint is of another model or of other data, or none can be read.
    """
    return fit_seeds(programs, [Seat(batches, folder, progress, learning_rate)], notify=notify)[0]


@dataclasses.dataclass(frozen=True)
class Seat:
    """One of the seeds that are trained at the same time; see `fit`."""

    batches: Batches
    folder: Path
    progress: Callable[[int, dict[str, float]], None] = lambda step, metrics: None
    learning_rate: float | None = None


def fit_seeds(
    programs: TrainPrograms,
    seats: Sequence[Seat],
    *,
    notify: Callable[[str], None] = lambda message: None,
) -> list[State]:
    """`fit` of as many seeds at the same time as the programs take, or fewer.

    Each goes on from its own checkpoint, and waits at its last step for the others.

    Returns:
      Their states after the last step.
    """
    parallel, places = programs.parallel, range(programs.parallel.seeds)
    # A seat that is left over does what the last one does, and nobody looks.
    seated = [seats[min(place, len(seats) - 1)] for place in places]
    seeds = np.array([seat.batches.seed for seat in seated], np.int32)
    with contextlib.ExitStack() as stack:
        first = seeds if len(seeds) > 1 else seated[0].batches.seed
        state = programs.create_all(first, seated[0].batches.batch(0))
        lanes = []
        for place, seat in enumerate(seats):
            lane = stack.enter_context(_Lane(programs.run, seat))
            state = lane.resume(parallel, state, place, notify)
            lanes.append(lane)
        usual = programs.run.optimizer.learning_rate
        rates = [np.float32(seat.learning_rate or usual) for seat in seated]
        rate = np.array(rates) if len(rates) > 1 else rates[0]
        while any(lane.step < programs.run.steps for lane in lanes):
            batches = [lane.batch() for lane in lanes]
            batches += [batches[-1]] * (len(seated) - len(batches))
            state, metrics = programs.step(state, parallel.place(batches), rate)
            for place, lane in enumerate(lanes):
                lane.after(metrics, functools.partial(parallel.take, state, place))
        return [parallel.take(state, place) for place in range(len(lanes))]


class _Lane:
    """One seed in training: its batches, its log, its checkpoints."""

    def __init__(self, run: Run, seat: Seat):
        self.run, self.seat, self.step = run, seat, 0

    def __enter__(self) -> "_Lane":
        self.seat.folder.mkdir(exist_ok=True)
        self.open = contextlib.ExitStack()
        folder = self.seat.folder / "checkpoints"
        self.checkpoints = self.open.enter_context(Checkpoints(folder))
        return self

    def __exit__(self, *error: Any) -> None:
        self.open.__exit__(*error)

    def resume(
        self, parallel: Parallelism, states: State, place: int, notify: Callable[[str], None]
    ) -> State:
        """The states, with that of this seed from its newest checkpoint, if it has one."""
        given, folder = self.seat.batches, self.seat.folder
        damaged, unlogged = tuple[int, ...](), list[Metrics]()
        if self.checkpoints.latest() is not None:
            found = self.checkpoints.restore(parallel.take(states, place))
            self.step, damaged, unlogged = found.step, found.damaged, found.unlogged
            if found.position != given.position(self.step):
                raise CheckpointError(
                    f"{folder}: the checkpoint stands at {found.position} of the data, "
                    f"this run would stand at {given.position(self.step)}"
                )
            if not found.checked:
                notify(f"{folder}: {WITHOUT_DIGEST.format(step=self.step)}")
            states = parallel.put(states, place, found.state)
        self.log = log = self.open.enter_context(Log(folder / "log.jsonl", resume_at=self.step))
        if log.damaged:
            notify(f"{folder / 'log.jsonl'} is damaged: {log.damaged} of its lines are lost")
            log.write(self.step, event="damaged-log", lines=log.damaged)
        for step in damaged:
            aside = self.checkpoints.set_aside(step)
            log.write(self.step, event="damaged-checkpoint", checkpoint=step)
            notify(f"{aside} is a damaged checkpoint: going on from step {self.step} instead")
        event = "resume" if self.step else "start"
        log.write(self.step, event=event, **given.position(self.step))
        place_of = place if parallel.seeds > 1 else None
        self.watch = _Watch(log, self.checkpoints, place_of, unlogged)
        self.batches = given.batches(self.step)
        return states

    def batch(self) -> Batch:
        """The next batch; after the last step the same again, for others to wait with."""
        if self.step < self.run.steps:
            self.last = next(self.batches)
        elif not hasattr(self, "last"):
            self.last = self.seat.batches.batch(0)
        return self.last

    def after(self, metrics: Any, state: Callable[[], State]) -> None:
        """What follows on a step that was dispatched."""
        if self.step == self.run.steps:
            return
        self.step += 1
        self.seat.progress(self.step, self.watch.push(self.step, metrics))
        if self.step % self.run.checkpoint_every == 0 or self.step == self.run.steps:
            self.watch.flush()
            self.log.check()
            position = self.seat.batches.position(self.step)
            self.checkpoints.save(self.step, state(), position, self.watch.unlogged)


class _Watch:
    """Looks at the metrics of a step once the next one is dispatched."""

    def __init__(
        self, log: Log, checkpoints: Checkpoints, place: int | None, unlogged: list[Metrics]
    ):
        """Of the seed in a place of the metrics' axis; None where they have none.

        Lines of the log are means over `LOG_EVERY` steps on a fixed grid: what a line still lacks
        when a checkpoint is saved goes on with it.
        """
        self.log, self.checkpoints = log, checkpoints
        self.place: Any = () if place is None else place
        self.pending: tuple[int, Any] | None = None
        self.unlogged = unlogged

    def push(self, step: int, metrics: Any) -> Metrics:
        seen = self.flush()
        self.pending = (step, metrics)
        return seen

    def flush(self) -> dict[str, float]:
        if self.pending is None:
            return {}
        step, metrics = self.pending
        self.pending = None
        values = {name: float(np.asarray(value)[self.place]) for name, value in metrics.items()}
        if not steps.all_finite(values):
            self._stop(step, values)
        self.unlogged.append(values)
        if step % LOG_EVERY == 0:
            means = {name: np.mean([line[name] for line in self.unlogged]) for name in values}
            self.log.write(step, **{name: round(float(mean), 6) for name, mean in means.items()})
            self.unlogged.clear()
        return values

    def _stop(self, step: int, values: dict[str, float]) -> None:
        self.checkpoints.wait()
        last = self.checkpoints.latest()
        kept = f"{self.checkpoints.folder / str(last)}" if last is not None else "none yet"
        broken = ", ".join(f"{name} {value}" for name, value in values.items())
        self.log.write(step, event="non-finite", **{name: str(v) for name, v in values.items()})
        where = self.checkpoints.folder.parent
        raise NonFiniteLossError(
            f"{where}: step {step}: {broken}; last good checkpoint: {kept}; "
            "try a lower optimizer.learning_rate in another folder"
        )
