"""Run every (variant, seed) of a suite that is not finished yet, and read back what is."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from crossattn.files import SEAL, damage
from crossattn.train.evaluate import Evaluator
from crossattn.train.folder import Folder
from crossattn.train.grouping import AUTO, Grouping
from crossattn.train.loop import NonFiniteLossError, Seat, TrainPrograms, fit, fit_seeds
from crossattn.train.multihost import barrier, broadcast, is_writer
from crossattn.train.open_loggers import Logger, open_loggers
from crossattn.train.outcome import measure_run, seal_files, write_json
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.record import UNGROUPED, RunRecord, library_versions, write_record
from crossattn.train.retrieval import recall
from crossattn.train.run import Run, replace
from crossattn.train.source import Dataset, batches_of
from crossattn.train.stale import MEASURED
from crossattn.train.suite import Suite
from crossattn.train.texts import best_rate, captions, score
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
    if suite.sweep:
        run = _with_best_rate(suite, variant, run, programs, evaluator, source, folder, listener)
    for group in plan.groups:
        _run_group(suite, variant, group, run, programs, evaluator, source, folder, listener)


def _run_group(
    suite: Suite,
    variant: str,
    group: list[int],
    run: Run,
    programs: TrainPrograms,
    evaluator: Evaluator,
    source: Dataset,
    folder: Folder,
    listener: Listener,
) -> None:
    """Train seeds at the same time, and measure one after the other."""
    seats, tell = [], _Told(variant, group, listener)
    grouping = dict(UNGROUPED)
    if programs.chunks is not None:
        grouping = {"seeds": len(group), "steps": programs.chunks.length}
    with contextlib.ExitStack() as stack:
        for seed in group:
            where = folder.run(variant, seed)
            folder.check_there()
            if any((where / name).exists() for name in ("metrics.json", SEAL)):
                listener.notify(f"{where}: {damage(where, MEASURED)}: measuring it again")
            record = RunRecord(suite.name, variant, seed, run, library_versions(), grouping)
            _write_record(where, record)
            batches = batches_of(run, source.train, seed, programs.parallel.share())
            progress = functools.partial(tell, seed)
            loggers = open_loggers(listener.loggers, record, where, listener.notify)
            stack.enter_context(loggers)
            rate = run.optimizer.learning_rate
            seats.append(Seat(batches, where, progress, rate, loggers))
        states = fit_seeds(programs, seats, notify=listener.notify, tracer=listener.tracer)
        for seed, seat, state in zip(group, seats, states, strict=True):
            tell(seed, run.steps, {}, "evaluating")
            meter = programs.meter(seat)
            work = {"step_flops": meter.flops, "peak_flops": meter.peak}
            who = {"variant": variant, "seed": seed, "work": work}
            more = {}
            if variant == suite.baseline:
                more["untrained"] = programs.create(seed, seat.batches.batch(0)).evaluated
            place = (source, seat.folder, who, seat.loggers)
            measure_run(suite.primary, run, evaluator, state, *place, **more)


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


def _write_record(folder: Path, record: RunRecord) -> None:
    if is_writer():
        write_record(folder, record)


def _with_best_rate(
    suite: Suite,
    variant: str,
    run: Run,
    programs: TrainPrograms,
    evaluator: Evaluator,
    source: Dataset,
    folder: Folder,
    listener: Listener,
) -> Run:
    """The run with the learning rate that does best on validation data (sweep seed)."""
    file = folder.path / "sweep" / variant / "chosen.json"
    broken = damage(file.parent, [file.name])
    if broken and file.exists():
        listener.notify(f"{file.parent}: {broken}: choosing the learning rate again")
    if broadcast([bool(broken)])[0]:
        scores: dict[float, float | None] = {}
        by = ""
        for rate in suite.learning_rates:
            candidate = replace(run, {"optimizer.learning_rate": rate})
            where = file.parent / f"rate{rate:g}"
            progress = functools.partial(listener.progress, f"{variant} rate {rate:g}")
            batches = batches_of(run, source.train, SWEEP_SEED, programs.parallel.share())
            folder.check_there()
            _write_record(
                where, RunRecord(suite.name, variant, SWEEP_SEED, candidate, library_versions())
            )
            try:
                state = fit(
                    programs,
                    batches,
                    where,
                    learning_rate=rate,
                    progress=progress,
                    notify=listener.notify,
                )
            except NonFiniteLossError:
                scores[rate] = None
                continue
            examples, params = source.splits["validation"], state.evaluated
            if run.loss.next_word:
                said = evaluator.predict(params, examples, attention=False)
                by, scores[rate] = score(examples, said)
            else:
                texts = examples.rows(captions(examples))
                by, scores[rate] = "recall", recall(texts, evaluator.features(params, texts))
        finite = {rate: score for rate, score in scores.items() if score is not None}
        if not finite:
            raise NonFiniteLossError(f"{variant}: no learning rate of the sweep stays finite")
        record = {
            "learning_rate": best_rate(finite, by),
            f"validation_{by}": {f"{r:g}": scores[r] for r in scores},
        }
        write_json(file, record)
        seal_files(file.parent, file.name)
        barrier(f"rate of {variant}")
    rate = json.loads(file.read_text())["learning_rate"]
    return replace(run, {"optimizer.learning_rate": rate})
