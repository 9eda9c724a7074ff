"""The training loop: batch, step, log, save. It never waits for the step just dispatched."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crossattn.train import step as steps
from crossattn.train.checkpoint import CheckpointError, Checkpoints
from crossattn.train.feed import Feed
from crossattn.train.log import Log
from crossattn.train.run import Run
from crossattn.train.step import State

LOG_EVERY = 10


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient became infinite or NaN."""


class Programs:
    """The compiled programs of one variant, shared by all its seeds.

    The seed is an argument of `create` and each seed runs by itself: what is computed for a seed
    does not depend on which other seeds run.
    """

    def __init__(self, run: Run, words: int):
        """Programs of a run whose vocabulary has `words` words."""
        self.run = run
        self.model = steps.model_of(run, words)
        optimiser = steps.optimiser_of(run.optimiser, run.steps)
        self.create = jax.jit(functools.partial(steps.create, self.model, optimiser))
        self.step = jax.jit(
            functools.partial(steps.train_step, self.model, optimiser), donate_argnums=0
        )


def fit(
    programs: Programs,
    feed: Feed,
    folder: Path,
    *,
    progress: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    notify: Callable[[str], None] = lambda message: None,
) -> State:
    """Train one seed of one variant to its last step, from its newest checkpoint if there is one.

    Args:
      programs: compiled programs of the variant.
      feed: batches of this seed.
      folder: gets `log.jsonl` and `checkpoints/`.
      progress: called after each step with the number of finished steps and the metrics of the
        step before.
      notify: called with what a user should know: a damaged checkpoint was passed over.

    Returns:
      The state after the last step.

    Raises:
      NonFiniteLossError: names the step and the last good checkpoint.
      CheckpointError: a checkpoint is of another model or of other data, or none can be read.
    """
    run = programs.run
    folder.mkdir(parents=True, exist_ok=True)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        state = programs.create(feed.seed, feed.batch(0))
        start, damaged = 0, tuple[int, ...]()
        if checkpoints.latest() is not None:
            start, state, position, damaged = checkpoints.restore(state)
            if position != feed.position(start):
                raise CheckpointError(
                    f"{folder}: the checkpoint stands at {position} of the data, "
                    f"this run would stand at {feed.position(start)}"
                )
        with Log(folder / "log.jsonl", resume_at=start) as log:
            for step in damaged:
                aside = checkpoints.set_aside(step)
                log.write(start, event="damaged-checkpoint", checkpoint=step)
                notify(f"{aside} is a damaged checkpoint: going on from step {start} instead")
            log.write(start, event="resume" if start else "start", **feed.position(start))
            watch = _Watch(log, checkpoints)
            for step, batch in zip(range(start, run.steps), feed.batches(start), strict=False):
                state, metrics = programs.step(state, batch, feed.learning_rate)
                progress(step + 1, watch.push(step + 1, metrics))
                if (step + 1) % run.checkpoint_every == 0 or step + 1 == run.steps:
                    watch.flush()
                    checkpoints.save(step + 1, state, feed.position(step + 1))
    return state


class _Watch:
    """Looks at the metrics of a step once the next one is dispatched."""

    def __init__(self, log: Log, checkpoints: Checkpoints):
        self.log, self.checkpoints = log, checkpoints
        self.pending: tuple[int, Any] | None = None
        self.window: list[dict[str, float]] = []

    def push(self, step: int, metrics: Any) -> dict[str, float]:
        seen = self.flush()
        self.pending = (step, metrics)
        return seen

    def flush(self) -> dict[str, float]:
        if self.pending is None:
            return {}
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in metrics.items()}
        if not steps.all_finite(values):
            self._stop(step, values)
        self.window.append(values)
        if step % LOG_EVERY == 0:
            means = {name: np.mean([line[name] for line in self.window]) for name in values}
            self.log.write(step, **{name: round(float(mean), 6) for name, mean in means.items()})
            self.window.clear()
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
            "try a lower optimiser.learning_rate in another folder"
        )
