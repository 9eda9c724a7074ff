"""Run every (variant, seed) of a suite that is not finished yet, and read back what is."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from crossattn.data.batches import Batches
from crossattn.files import SEAL, damage
from crossattn.train.evaluate import Evaluator
from crossattn.train.folder import Folder
from crossattn.train.grouping import AUTO, Grouping
from crossattn.train.loop import Seat, TrainPrograms, fit, fit_seeds
from crossattn.train.multihost import is_writer
from crossattn.train.open_loggers import Logger, open_loggers
from crossattn.train.outcome import measure_run
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.rate_sweep import chosen_rate
from crossattn.train.record import UNGROUPED, RunRecord, library_versions, write_record
from crossattn.train.retrieval import recall
from crossattn.train.run import Run, replace
from crossattn.train.source import Dataset, batches_of
from crossattn.train.stale import MEASURED
from crossattn.train.step import State
from crossattn.train.suite import Suite
from crossattn.train.texts import captions, score
from crossattn.train.tracing import NOT_TRACED, Tracer

# The seed of sweep runs is none that a suite reports.
SWEEP_SEED = 1_000_003


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who hears of the runs.

    Attributes:
      progress: called after each step with the run's label, the step and its metrics.
      notify: called with what a user should know.
      tracer: what traces some steps.
      loggers: who gets the records of every run, those of a sweep of learning rates aside.
    """

    progress: Callable[[str, int, dict[str, float]], None] = lambda label, step, metrics: None
    notify: Callable[[str], None] = lambda message: None
    tracer: Tracer = NOT_TRACED
    loggers: Sequence[Logger] = ()


def run_order(suite: Suite) -> list[str]:
    """Variants in the order in which they run: a report of the first ones says the most.

    The baseline, which all others are compared with, then what the claims are about, then the rest.
    Each with all its seeds before the next, since single seeds allow no comparison, and one
    variant's programs are compiled once.
    """
    claimed = [name for claim in suite.claims for name in claim[:2]]
    return list(dict.fromkeys((suite.baseline, *claimed, *suite.variants)))


def run_variant(
    suite: Suite,
    variant: str,
    seeds: list[int],
    source: Dataset,
    folder: Folder,
    *,
    listener: Listener = Listener(),
    parallel: Parallelism = SINGLE_DEVICE,
    grouping: Grouping = AUTO,
) -> None:
    """Train and measure the given seeds of a variant through one set of compiled programs."""
    run = suite.run(variant)
    programs = TrainPrograms(run, source.vocabulary, parallel)
    plan = grouping.plan(programs, source.train, seeds)
    if plan.chunking is not None:
        listener.notify(f"{variant}: {plan.words}")
        parallel = dataclasses.replace(parallel, chunking=plan.chunking)
        programs = TrainPrograms(run, source.vocabulary, parallel)
    evaluator = Evaluator(programs.model, parallel)
    runs = VariantRuns(suite, variant, run, programs, evaluator, source, folder, listener)
    if suite.sweep:
        runs = runs.with_best_rate()
    for group in plan.groups:
        runs.train(group)


@dataclasses.dataclass(frozen=True)
class VariantRuns:
    """The runs of one variant through one set of compiled programs."""

    suite: Suite
    variant: str
    run: Run
    programs: TrainPrograms
    evaluator: Evaluator
    source: Dataset
    folder: Folder
    listener: Listener

    def train(self, group: list[int]) -> None:
        """Train seeds at the same time, and measure one after the other."""
        tell = _Told(self.variant, group, self.listener)
        with contextlib.ExitStack() as stack:
            seats = [self._seat(seed, len(group), tell, stack) for seed in group]
            notify, tracer = self.listener.notify, self.listener.tracer
            states = fit_seeds(self.programs, seats, notify=notify, tracer=tracer)
            for seed, seat, state in zip(group, seats, states, strict=True):
                tell(seed, self.run.steps, {}, "evaluating")
                self._measure(seed, seat, state)

    def _seat(self, seed: int, together: int, tell: "_Told", stack: contextlib.ExitStack) -> Seat:
        """What trains one of so many seeds at the same time; the stack closes its loggers."""
        where = self.folder.run(self.variant, seed)
        self.folder.check_there()
        if any((where / name).exists() for name in ("metrics.json", SEAL)):
            self.listener.notify(f"{where}: {damage(where, MEASURED)}: measuring it again")
        chunks = self.programs.chunks
        grouping = {"seeds": together, "steps": chunks.length} if chunks else UNGROUPED
        record = self._record(where, seed, self.run, grouping)
        batches = self._batches(seed)
        loggers = open_loggers(self.listener.loggers, record, where, self.listener.notify)
        stack.enter_context(loggers)
        progress = functools.partial(tell, seed)
        return Seat(batches, where, progress, self.run.optimizer.learning_rate, loggers)

    def _measure(self, seed: int, seat: Seat, state: State) -> None:
        meter = self.programs.meter(seat)
        work = {"step_flops": meter.flops, "peak_flops": meter.peak}
        who = {"variant": self.variant, "seed": seed, "work": work}
        more = {}
        if self.variant == self.suite.baseline:
            more["untrained"] = self.programs.create(seed, seat.batches.batch(0)).evaluated
        place = (self.source, seat.folder, who, seat.loggers)
        measure_run(self.suite.primary, self.run, self.evaluator, state, *place, **more)

    def with_best_rate(self) -> "VariantRuns":
        """These runs with the learning rate that does best on validation data."""
        folder = self.folder.path / "sweep" / self.variant
        score = functools.partial(self._validation_score, folder)
        rate = chosen_rate(folder, self.suite.learning_rates, score, self.listener.notify)
        run = replace(self.run, {"optimizer.learning_rate": rate})
        return dataclasses.replace(self, run=run)

    def _validation_score(self, folder: Path, rate: float) -> tuple[str, float]:
        """By what a run of a sweep is judged, and its value."""
        where = folder / f"rate{rate:g}"
        self.folder.check_there()
        self._record(where, SWEEP_SEED, replace(self.run, {"optimizer.learning_rate": rate}))
        state = fit(
            self.programs,
            self._batches(SWEEP_SEED),
            where,
            learning_rate=rate,
            progress=functools.partial(self.listener.progress, f"{self.variant} rate {rate:g}"),
            notify=self.listener.notify,
        )
        examples, params = self.source.splits["validation"], state.evaluated
        if self.run.loss.next_word:
            return score(examples, self.evaluator.predict(params, examples, attention=False))
        texts = examples.rows(captions(examples))
        return "recall", recall(texts, self.evaluator.features(params, texts))

    def _batches(self, seed: int) -> Batches:
        share = self.programs.parallel.share()
        return batches_of(self.run, self.source.train, seed, share)

    def _record(
        self, folder: Path, seed: int, run: Run, grouping: Mapping[str, int] = UNGROUPED
    ) -> RunRecord:
        """Of a run, written by one of several processes."""
        who = self.suite.name, self.variant, seed
        record = RunRecord(*who, run, library_versions(), dict(grouping))
        if is_writer():
            write_record(folder, record)
        return record


class _Told:
    """Tells of seeds that are trained at the same time as of one run that makes all their steps."""

    def __init__(self, variant: str, group: list[int], listener: Listener):
        several = "seeds" if len(group) > 1 else "seed"
        self.label = f"{variant} {several} {' '.join(map(str, group))}"
        self.listener, self.steps = listener, dict.fromkeys(group, 0)

    def __call__(self, seed: int, step: int, metrics: dict[str, float], doing: str = "") -> None:
        self.steps[seed] = step
        label = f"{self.label}, {doing}" if doing else self.label
        self.listener.progress(label, sum(self.steps.values()), metrics)
