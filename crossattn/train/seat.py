"""One seed in training: its batches, its log, its checkpoints."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.data.batches import Batch, Batches
from crossattn.train.checkpoint import CheckpointError, Checkpoints
from crossattn.train.log import Log
from crossattn.train.open_loggers import NO_LOGGERS, OpenLoggers
from crossattn.train.restored import WITHOUT_DIGEST, Metrics
from crossattn.train.run import Run
from crossattn.train.step import State, all_finite
from crossattn.train.utilization import Meter

LOG_EVERY = 10


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient became infinite or NaN."""


@dataclasses.dataclass(frozen=True)
class Seat:
    """One of the seeds that are trained at the same time; see `crossattn.train.loop.fit`."""

    batches: Batches
    folder: Path
    progress: Callable[[int, dict[str, float]], None] = lambda step, metrics: None
    learning_rate: float | None = None
    loggers: OpenLoggers = NO_LOGGERS


class Seated:
    """A seat while it is trained.

    Attributes:
      step: number of finished steps.
      until: number of finished steps after the dispatch under way.
    """

    def __init__(
        self,
        run: Run,
        seat: Seat,
        meter: Meter,
        *,
        place: int | None = None,
        grouping: Mapping[str, int] | None = None,
    ):
        """In a place of the metrics' seed axis; None where they have none.

        `grouping` says of how many seeds and steps a program is; None where it is of one step.
        """
        self.run, self.seat, self.meter, self.place = run, seat, meter, place
        self.grouping = grouping or {}
        self.step = self.until = 0

    def __enter__(self) -> "Seated":
        self.seat.folder.mkdir(exist_ok=True)
        self.open = contextlib.ExitStack()
        folder = self.seat.folder / "checkpoints"
        self.checkpoints = self.open.enter_context(Checkpoints(folder))
        return self

    def __exit__(self, *error: Any) -> None:
        self.open.__exit__(*error)

    @property
    def running(self) -> bool:
        """Whether it has not made its last step."""
        return self.step < self.run.steps

    @property
    def learning_rate(self) -> np.float32:
        """The peak that its updates are multiplied by."""
        return np.float32(self.seat.learning_rate or self.run.optimizer.learning_rate)

    def resume(self, like: Callable[[], State], notify: Callable[[str], None]) -> State | None:
        """The state of the newest checkpoint, placed as `like()`; None where there is none."""
        given, folder = self.seat.batches, self.seat.folder
        damaged, unlogged = tuple[int, ...](), list[Metrics]()
        state = None
        if self.checkpoints.latest() is not None:
            found = self.checkpoints.restore(like())
            self.step, damaged, unlogged = found.step, found.damaged, found.unlogged
            if found.position != given.position(self.step):
                raise CheckpointError(
                    f"{folder}: the checkpoint stands at {found.position} of the data, "
                    f"this run would stand at {given.position(self.step)}"
                )
            if not found.checked:
                notify(f"{folder}: {WITHOUT_DIGEST.format(step=self.step)}")
            state = found.state
        log = Log(folder / "log.jsonl", resume_at=self.step, loggers=self.seat.loggers)
        self.log = self.open.enter_context(log)
        if log.damaged:
            notify(f"{folder / 'log.jsonl'} is damaged: {log.damaged} of its lines are lost")
            log.write(self.step, event="damaged-log", lines=log.damaged)
        for step in damaged:
            aside = self.checkpoints.set_aside(step)
            log.write(self.step, event="damaged-checkpoint", checkpoint=step)
            notify(f"{aside} is a damaged checkpoint: going on from step {self.step} instead")
        event = "resume" if self.step else "start"
        log.write(self.step, event=event, **self.grouping, **given.position(self.step))
        where = self.place, self.grouping.get("seeds")
        self.watch = _Watch(log, self.checkpoints, *where, unlogged, self.meter)
        self._batches: Iterator[Batch] | None = None
        return state

    def plan(self, length: int) -> int:
        """Decide on a dispatch of at most `length` steps: none goes past a checkpoint."""
        every = self.run.checkpoint_every
        saved = self.step // every * every + every
        self.until = min(self.step + length, saved, self.run.steps)
        return self.until

    def batch(self) -> Batch:
        """The next batch; after the last step the same again, for others to wait with."""
        if self._batches is None:
            self._batches = self.seat.batches.batches(self.step)
            self._taken = self.step
        if self._taken < self.run.steps:
            self._last = next(self._batches)
            self._taken += 1
        elif not hasattr(self, "_last"):
            self._last = self.seat.batches.batch(0)
        return self._last

    def after(self, metrics: Any, state: Callable[[], State]) -> None:
        """What follows on the steps that were dispatched, as planned."""
        if (count := self.until - self.step) == 0:
            return
        self.step = self.until
        seen = self.watch.push(self.step, metrics, count)
        self.seat.progress(self.step, seen | self.meter.found if seen else seen)
        if self.step % self.run.checkpoint_every == 0 or not self.running:
            self.watch.flush()
            self.log.check()
            position = self.seat.batches.position(self.step)
            self.checkpoints.save(self.step, state(), position, self.watch.unlogged)


class _Watch:
    """Looks at the metrics of a dispatch once the next one is under way."""

    def __init__(
        self,
        log: Log,
        checkpoints: Checkpoints,
        place: int | None,
        together: int | None,
        unlogged: list[Metrics],
        meter: Meter,
    ):
        """Of the seed in a place of the metrics' last axis; None where they have none.

        Lines of the log are means over `LOG_EVERY` steps on a fixed grid: what a line still lacks
        when a checkpoint is saved goes on with it. Where a program makes several steps, they say
        at which step it ended (`chunk_end`), which is when they are written, and of how many seeds.
        """
        self.log, self.checkpoints, self.together = log, checkpoints, together
        self.meter = meter
        self.place: Any = ... if place is None else (..., place)
        self.pending: tuple[int, Any, int] | None = None
        self.unlogged = unlogged
        self.seen: Metrics = {}

    def push(self, end: int, metrics: Any, count: int) -> Metrics:
        """Take the metrics of `count` steps up to `end`; returns the last that were seen."""
        self.flush()
        self.pending = (end, metrics, count)
        return self.seen

    def flush(self) -> None:
        """Wait for what is pending, and write it down."""
        if self.pending is None:
            return
        end, metrics, count = self.pending
        self.pending = None
        every = {name: np.atleast_1d(np.asarray(x)[self.place]) for name, x in metrics.items()}
        chunk = {"chunk_end": end, "seeds": self.together} if self.together else {}
        for index in range(count):
            self.seen = {name: float(of[index]) for name, of in every.items()}
            self._see(end - count + 1 + index, self.seen, chunk)

    def _see(self, step: int, values: Metrics, chunk: dict[str, int]) -> None:
        if not all_finite(values):
            self._stop(step, values)
        self.unlogged.append(values)
        if step % LOG_EVERY == 0:
            means = {name: np.mean([line[name] for line in self.unlogged]) for name in values}
            rounded = {name: round(float(mean), 6) for name, mean in means.items()}
            speed = self.meter.read(chunk.get("chunk_end", step))
            self.log.write(step, **rounded, **chunk, **speed)
            self.unlogged.clear()

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
