"""Run every (variant, seed) of a suite that is not finished yet, and read back what is."""

import dataclasses
import functools
import importlib.metadata
import io
import json
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from crossattn.files import write_atomically
from crossattn.nn.blocks import count_parameters
from crossattn.train import exhibits
from crossattn.train.evaluate import Evaluator
from crossattn.train.log import read_lines
from crossattn.train.loop import Feed, NonFiniteLossError, Programs, fit
from crossattn.train.measure import measure, questions, right_answers
from crossattn.train.run import Run, replace
from crossattn.train.source import Source
from crossattn.train.suite import Suite

# What a run of a few hundred thousand parameters leaves on the disk, checkpoints included.
BYTES_PER_RUN = 4_000_000

# The seed of sweep runs is none that a suite reports.
SWEEP_SEED = 1_000_003

Progress = Callable[[str, int, dict[str, float]], None]


class FolderError(ValueError):
    """The output folder holds something else."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where a suite's results lie: `suite.json`, `runs/VARIANT/seedN/`, `results.json`, ..."""

    path: Path

    def check(self, suite: Suite, seeds: int) -> None:
        """Make sure that this suite's results may be written here, and have room.

        Raises:
          FolderError: it cannot be written, is too full, or holds another suite, other settings, or
            files of something else.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderError(
                f"cannot write into {self.path}: {error.strerror}; choose another folder with --out"
            ) from None
        left = sum(len(more) for _, more in pending(suite, self, seeds))
        free, needed = shutil.disk_usage(self.path).free, BYTES_PER_RUN * left
        if free < needed:
            raise FolderError(
                f"{self.path} has {free / 1e6:.1f} MB left, {left} runs need about "
                f"{needed / 1e6:.0f} MB: make room, or choose another folder with --out"
            )
        if not self._identity.exists():
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise FolderError(
                    f"{self.path} is not empty and holds no suite: choose a new folder with --out"
                )
            return
        try:
            there = json.loads(self._identity.read_text())
            name, settings = there["suite"], there["settings"]
            fingerprint = there["fingerprint"]
        except (ValueError, KeyError, TypeError):
            raise FolderError(
                f"{self._identity} is damaged: choose another folder with --out"
            ) from None
        if name != suite.name:
            raise FolderError(
                f"{self.path} holds the suite {name}, not {suite.name}: "
                "choose another folder with --out"
            )
        if fingerprint != suite.fingerprint():
            raise FolderError(
                f"{self.path} holds {name} with other settings "
                f"({_differences(settings, _settings(suite))}): "
                "type the same options again, or choose another folder with --out"
            )

    def claim(self, suite: Suite) -> None:
        """Make a checked folder this suite's."""
        identity = {
            "suite": suite.name,
            "fingerprint": suite.fingerprint(),
            "settings": _settings(suite),
        }
        write_atomically(self._identity, json.dumps(identity, indent=2) + "\n")

    @property
    def _identity(self) -> Path:
        return self.path / "suite.json"

    def run(self, variant: str, seed: int) -> Path:
        """Folder of one run."""
        return self.path / "runs" / variant / f"seed{seed}"

    def finished(self, variant: str, seed: int) -> bool:
        """Whether a run never needs to run again: its metrics are written last."""
        try:
            json.loads((self.run(variant, seed) / "metrics.json").read_text())
        except (OSError, ValueError):
            return False
        return True


def _settings(suite: Suite) -> dict[str, Any]:
    settings = {**dataclasses.asdict(suite.base), "sweep": suite.sweep}
    return json.loads(json.dumps(settings))


def _differences(there: dict[str, Any], here: dict[str, Any]) -> str:
    old, new = _flat(there), _flat(here)
    changed = [name for name in new if old.get(name) != new[name]]
    said = [f"{name} is {old.get(name)} there and {new[name]} here" for name in changed]
    return "; ".join(said) or "its variants have changed"


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def pending(suite: Suite, folder: Folder, seeds: int) -> Iterator[tuple[str, list[int]]]:
    """Variants with the seeds that still have to run."""
    for variant in suite.variants:
        left = [seed for seed in range(seeds) if not folder.finished(variant, seed)]
        if left:
            yield variant, left


def check_source(suite: Suite, source: Source) -> None:
    """Find out before training what would otherwise fail after it.

    Raises:
      ValueError: the batches do not fit the data, or there is nothing to measure the suite by.
    """
    Feed(suite.base, source.train, 0)
    split = suite.primary.split("/")[0]
    if split not in source.splits:
        raise ValueError(
            f"the primary metric {suite.primary} needs the split {split!r}; "
            f"data.source {suite.base.data.source} has {', '.join(source.splits)}"
        )
    for name in ("validation", source.main):
        if len(questions(source.splits[name])) == 0:
            raise ValueError("there are no questions to evaluate: add question to data.tasks")


def run_variant(
    suite: Suite,
    variant: str,
    seeds: list[int],
    source: Source,
    folder: Folder,
    *,
    progress: Progress = lambda label, step, metrics: None,
) -> None:
    """Train and measure the given seeds of a variant through one set of compiled programs."""
    run = suite.run(variant)
    programs = Programs(run, source.train)
    evaluator = Evaluator(programs.model)
    if suite.sweep:
        run = _with_best_rate(suite, variant, run, programs, evaluator, source, folder, progress)
    for seed in seeds:
        where = folder.run(variant, seed)
        label = f"{variant} seed {seed}"
        feed = Feed(run, source.train, seed)
        state = fit(programs, feed, where, progress=functools.partial(progress, label))
        progress(f"{label}, evaluating", run.steps, {})
        evidence = measure(evaluator, state.params, source.splits, main=source.main)
        items = {name: evidence.items[name] for name in evidence.items if name == suite.primary}
        _save_arrays(where / "items.npz", items)
        if evaluator.patches_seen:
            maps = exhibits.attention(evaluator, state.params, source, evidence.layer)
            _save_arrays(where / "maps.npz", {"weights": maps})
        record = {
            "variant": variant,
            "seed": seed,
            "metrics": evidence.metrics,
            "chance": evidence.chance,
            "layer": evidence.layer,
            "parameters": count_parameters(state.params),
            "learning_rate": run.optimiser.learning_rate,
            "versions": versions(),
        }
        write_atomically(where / "metrics.json", json.dumps(record, indent=1) + "\n")


def _with_best_rate(
    suite: Suite,
    variant: str,
    run: Run,
    programs: Programs,
    evaluator: Evaluator,
    source: Source,
    folder: Folder,
    progress: Progress,
) -> Run:
    """The run with the learning rate that answers validation questions best (sweep seed)."""
    file = folder.path / "sweep" / variant / "chosen.json"
    if not file.exists():
        scores: dict[float, float | None] = {}
        for rate in suite.learning_rates:
            candidate = replace(run, {"optimiser.learning_rate": rate})
            where = file.parent / f"rate{rate:g}"
            label = f"{variant} rate {rate:g}"
            feed = Feed(candidate, source.train, SWEEP_SEED)
            try:
                state = fit(programs, feed, where, progress=functools.partial(progress, label))
            except NonFiniteLossError:
                scores[rate] = None
                continue
            examples = source.splits["validation"]
            said = evaluator.predict(state.params, examples, attention=False)
            scores[rate] = float(right_answers(examples, said, questions(examples)).mean())
        finite = {rate: score for rate, score in scores.items() if score is not None}
        if not finite:
            raise NonFiniteLossError(f"{variant}: no learning rate of the sweep stays finite")
        best = max(finite, key=lambda rate: (finite[rate], -rate))
        record = {
            "learning_rate": best,
            "validation_accuracy": {f"{r:g}": scores[r] for r in scores},
        }
        write_atomically(file, json.dumps(record, indent=1) + "\n")
    rate = json.loads(file.read_text())["learning_rate"]
    return replace(run, {"optimiser.learning_rate": rate})


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
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
      sweep: variant to the record of its learning-rate sweep, empty when none ran.
    """

    runs: list[dict[str, Any]]
    chance: dict[str, float]
    items: dict[str, np.ndarray]
    curves: dict[str, dict[int, dict[str, list[float]]]]
    timings: dict[str, dict[str, Any]]
    sweep: dict[str, Any]
    versions: list[dict[str, str]]


def collect(suite: Suite, folder: Folder, seeds: int) -> Finished:
    """Read back the runs of all variants and seeds."""
    finished = Finished([], {}, {}, {}, {}, {}, [])
    for variant in suite.variants:
        items, paces, parameters = [], [], 0
        for seed in range(seeds):
            where = folder.run(variant, seed)
            record = json.loads((where / "metrics.json").read_text())
            finished.runs.append({name: record[name] for name in ("variant", "seed", "metrics")})
            finished.chance.update(record["chance"])
            items.append(np.load(where / "items.npz")[suite.primary])
            lines = [line for line in read_lines(where / "log.jsonl") if "loss" in line]
            finished.curves.setdefault(variant, {})[seed] = {
                name: [line[name] for line in lines] for name in ("step", "loss", "accuracy")
            }
            paces.append(_pace(lines))
            parameters = record["parameters"]
            if record["versions"] not in finished.versions:
                finished.versions.append(record["versions"])
        finished.items[variant] = np.stack(items)
        finished.timings[variant] = {"parameters": parameters}
        if measured := [pace for pace in paces if pace is not None]:
            finished.timings[variant]["step_seconds"] = round(float(np.median(measured)), 6)
        chosen = folder.path / "sweep" / variant / "chosen.json"
        if chosen.exists():
            finished.sweep[variant] = json.loads(chosen.read_text())
    return finished


def _pace(lines: list[dict[str, Any]]) -> float | None:
    """Median seconds per step between logged lines: neither compilation nor a pause counts."""
    if len(lines) < 2:
        return None
    times = np.array([line["time"] for line in lines])
    steps = np.array([line["step"] for line in lines])
    return float(np.median(np.diff(times) / np.diff(steps)))


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    return {
        "python": platform.python_version(),
        "crossattn": importlib.metadata.version("crossattn"),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
    }
