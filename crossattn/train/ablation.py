"""Run every (variant, seed) of a suite that is not finished yet, and read back what is."""

import dataclasses
import functools
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crossattn.files import SEAL, damage, seal, write_atomically
from crossattn.nn.parameters import count_parameters
from crossattn.train import exhibits
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import measure_model
from crossattn.train.folder import Folder
from crossattn.train.log import Log, curve, read_lines
from crossattn.train.loop import NonFiniteLossError, Seat, TrainPrograms, fit, fit_seeds
from crossattn.train.multihost import barrier, broadcast, is_writer
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.record import RunRecord, library_versions, processor, write_record
from crossattn.train.run import Run, replace
from crossattn.train.source import Dataset, batches_of
from crossattn.train.stale import MEASURED
from crossattn.train.step import State
from crossattn.train.suite import Suite
from crossattn.train.texts import best_rate, score

# The seed of sweep runs is none that a suite reports.
SWEEP_SEED = 1_000_003


@dataclasses.dataclass(frozen=True)
class Listener:
    """Who hears of the runs.

    Attributes:
      progress: called after each step with the run's label, the step and its metrics.
      notify: called with what a user should know.
    """

    progress: Callable[[str, int, dict[str, float]], None] = lambda label, step, metrics: None
    notify: Callable[[str], None] = lambda message: None


def run_order(suite: Suite) -> list[str]:
    """Variants in the order in which they run: a report of the first ones says the most.

    The baseline, which all others are compared with, then what the claims are about, then the rest.
    Each with all its seeds before the next, since single seeds allow no comparison, and one
    variant's programs are compiled once.
    """
    claimed = [name for claim in suite.claims for name in claim]
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
) -> None:
    """Train and measure the given seeds of a variant through one set of compiled programs."""
    run = suite.run(variant)
    programs = TrainPrograms(run, len(source.vocabulary), parallel)
    evaluator = Evaluator(programs.model, parallel)
    if suite.sweep:
        run = _with_best_rate(suite, variant, run, programs, evaluator, source, folder, listener)
    label = lambda seed: f"{variant} seed {seed}"
    for start in range(0, len(seeds), parallel.seeds):
        group = seeds[start : start + parallel.seeds]
        seats = []
        for seed in group:
            where = folder.run(variant, seed)
            folder.check_there()
            if any((where / name).exists() for name in ("metrics.json", SEAL)):
                listener.notify(f"{where}: {damage(where, MEASURED)}: measuring it again")
            _write_record(where, RunRecord(suite.name, variant, seed, run, library_versions()))
            progress = functools.partial(listener.progress, label(seed))
            batches = batches_of(run, source.train, seed, parallel.share())
            seats.append(Seat(batches, where, progress, run.optimizer.learning_rate))
        states = fit_seeds(programs, seats, notify=listener.notify)
        for seed, seat, state in zip(group, seats, states, strict=True):
            listener.progress(f"{label(seed)}, evaluating", run.steps, {})
            measured = _measure(suite, run, evaluator, state, source, seat.folder)
            record = {"variant": variant, "seed": seed, **measured}
            _write_json(seat.folder / "metrics.json", record)
            _seal(seat.folder, *MEASURED, *["maps.npz"] * evaluator.patches_seen)


def _measure(
    suite: Suite, run: Run, evaluator: Evaluator, state: State, source: Dataset, where: Path
) -> dict[str, Any]:
    """What metrics.json says of a trained run; the arrays beside it are written."""
    evidence = measure_model(evaluator, state.evaluated, source.splits, main=source.main)
    items = {name: evidence.items[name] for name in evidence.items if name == suite.primary}
    _save_arrays(where / "items.npz", items)
    if evaluator.patches_seen:
        maps = exhibits.exhibit_attention(evaluator, state.evaluated, source, evidence.layer)
        _save_arrays(where / "maps.npz", {"weights": maps})
    with Log(where / "log.jsonl", resume_at=run.steps) as log:
        log.write(run.steps, event="measured")
    lines = curve(where / "log.jsonl")
    return {
        "metrics": evidence.metrics,
        "chance": evidence.chance,
        "counts": {
            "images": {name: len(np.unique(x.image)) for name, x in source.splits.items()},
            "items": evidence.counts(),
            "training_images": source.trained,
        },
        "layer": evidence.layer,
        "curve": {name: [line[name] for line in lines] for name in ("step", "loss", "accuracy")},
        "step_seconds": _pace(lines),
        "parameters": count_parameters(state.params),
        "learning_rate": run.optimizer.learning_rate,
        "versions": library_versions(),
        "processor": processor(),
        "device": jax.devices()[0].device_kind,
    }


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
            examples = source.splits["validation"]
            said = evaluator.predict(state.evaluated, examples, attention=False)
            by, scores[rate] = score(examples, said)
        finite = {rate: score for rate, score in scores.items() if score is not None}
        if not finite:
            raise NonFiniteLossError(f"{variant}: no learning rate of the sweep stays finite")
        record = {
            "learning_rate": best_rate(finite, by),
            f"validation_{by}": {f"{r:g}": scores[r] for r in scores},
        }
        _write_json(file, record)
        _seal(file.parent, file.name)
        barrier(f"rate of {variant}")
    rate = json.loads(file.read_text())["learning_rate"]
    return replace(run, {"optimizer.learning_rate": rate})


def _write_json(path: Path, record: dict[str, Any]) -> None:
    if is_writer():
        write_atomically(path, json.dumps(record, indent=1) + "\n")


def _seal(folder: Path, *names: str) -> None:
    if is_writer():
        seal(folder, names)


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if not is_writer():
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


@dataclasses.dataclass(frozen=True)
class Finished:
    """All finished runs of a suite: the rows of results.json and the files behind them.

    Attributes:
      runs: {variant, seed, metrics} each.
      chance: metric to its chance level.
      items: variant to (seeds, N) single items of the primary metric.
      curves: variant to seed to {step, loss, accuracy} lists.
      timings: variant to {parameters, step_seconds}.
      versions: of the libraries, by those that differ between runs.
      processors, devices: the kinds that runs were measured on.
      counts: images by split, items by metric, training images, as the runs counted them.
      sweep: variant to the record of its learning-rate sweep, empty when none ran.
    """

    runs: list[dict[str, Any]]
    chance: dict[str, float]
    items: dict[str, np.ndarray]
    curves: dict[str, dict[int, dict[str, list[float]]]]
    timings: dict[str, dict[str, Any]]
    sweep: dict[str, Any]
    versions: list[dict[str, str]]
    processors: list[str] = dataclasses.field(default_factory=list)
    devices: list[str] = dataclasses.field(default_factory=list)
    counts: dict[str, Any] = dataclasses.field(default_factory=dict)


def collect(suite: Suite, folder: Folder, seeds: int) -> Finished:
    """Read back the runs that are finished (see `Folder.finished`), variants in their order."""
    finished = Finished([], {}, {}, {}, {}, {}, [])
    for variant in suite.variants:
        items, paces, parameters = [], [], 0
        for seed in range(seeds):
            if not folder.finished(variant, seed):
                continue
            where = folder.run(variant, seed)
            record = json.loads((where / "metrics.json").read_text())
            finished.runs.append({name: record[name] for name in ("variant", "seed", "metrics")})
            finished.chance.update(record["chance"])
            items.append(np.load(where / "items.npz")[suite.primary])
            finished.curves.setdefault(variant, {})[seed] = record["curve"]
            paces.append(record["step_seconds"])
            parameters = record["parameters"]
            if record["versions"] not in finished.versions:
                finished.versions.append(record["versions"])
            _counted(finished, record)
        if not items:
            continue
        finished.items[variant] = np.stack(items)
        finished.timings[variant] = {"parameters": parameters}
        if measured := [pace for pace in paces if pace is not None]:
            finished.timings[variant]["step_seconds"] = round(float(np.median(measured)), 6)
        chosen = folder.path / "sweep" / variant / "chosen.json"
        if chosen.exists():
            finished.sweep[variant] = json.loads(chosen.read_text())
    return finished


def _counted(finished: Finished, record: dict[str, Any]) -> None:
    """Add what a run says of where it ran and of what it counted; older runs say nothing."""
    for known, name in ((finished.processors, "processor"), (finished.devices, "device")):
        if name in record and record[name] not in known:
            known.append(record[name])
    for what, number in record.get("counts", {}).items():
        if isinstance(number, dict):
            finished.counts.setdefault(what, {}).update(number)
        else:
            finished.counts[what] = number


def pace(folder: Path) -> float | None:
    """Median seconds per step of a run, from its log; None where too little was logged."""
    return _pace(curve(folder / "log.jsonl"))


def evaluation_seconds(folder: Path) -> float | None:
    """What measuring a run took after its last step, from its log."""
    path = folder / "log.jsonl"
    trained = [line["time"] for line in curve(path)]
    measured = [line["time"] for line in read_lines(path) if line.get("event") == "measured"]
    return measured[0] - trained[-1] if trained and measured else None


def _pace(lines: list[dict[str, Any]]) -> float | None:
    """Median seconds per step between logged lines: neither compilation nor a pause counts."""
    if len(lines) < 2:
        return None
    times = np.array([line["time"] for line in lines])
    steps = np.array([line["step"] for line in lines])
    return float(np.median(np.diff(times) / np.diff(steps)))
