"""Run every (variant, seed) of a suite that is not finished yet, and read back what is."""

import dataclasses
import functools
import io
import json
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np

from crossattn.nn.blocks import count_parameters
from crossattn.train import exhibits
from crossattn.train.evaluate import Evaluator
from crossattn.train.log import read_lines, write_atomically
from crossattn.train.loop import Feed, Programs, fit
from crossattn.train.measure import measure, questions, right_answers
from crossattn.train.run import Run, replace
from crossattn.train.source import Source
from crossattn.train.suite import Suite

# The seed of sweep runs is none that a suite reports.
SWEEP_SEED = 1_000_003

Progress = Callable[[str, int, dict[str, float]], None]


class FolderError(ValueError):
    """The output folder holds something else."""


@dataclasses.dataclass(frozen=True)
class Folder:
    """Where a suite's results lie: `suite.json`, `runs/VARIANT/seedN/`, `results.json`, ..."""

    path: Path

    def claim(self, suite: Suite) -> None:
        """Make the folder this suite's, or check that it is.

        Raises:
          FolderError: it holds another suite, other settings, or files of something else.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        base = json.loads(json.dumps(dataclasses.asdict(suite.base)))
        identity = {"suite": suite.name, "fingerprint": suite.fingerprint(), "base": base}
        file = self.path / "suite.json"
        if not file.exists():
            if any(not entry.name.startswith(".") for entry in self.path.iterdir()):
                raise FolderError(
                    f"{self.path} is not empty and holds no suite: choose a new folder with --out"
                )
            write_atomically(file, json.dumps(identity, indent=2) + "\n")
            return
        there = json.loads(file.read_text())
        if there["suite"] != suite.name:
            raise FolderError(
                f"{self.path} holds the suite {there['suite']}, not {suite.name}: "
                "choose another folder with --out"
            )
        if there["fingerprint"] != identity["fingerprint"]:
            raise FolderError(
                f"{self.path} holds {suite.name} with other settings "
                f"({_differences(there['base'], identity['base'])}): "
                "type the same options again, or choose another folder with --out"
            )

    def run(self, variant: str, seed: int) -> Path:
        """Folder of one run."""
        return self.path / "runs" / variant / f"seed{seed}"

    def finished(self, variant: str, seed: int) -> bool:
        """Whether a run never needs to run again."""
        return (self.run(variant, seed) / "metrics.json").exists()


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


def run_variant(
    suite: Suite,
    variant: str,
    seeds: list[int],
    source: Source,
    folder: Folder,
    *,
    sweep: bool = False,
    progress: Progress = lambda label, step, metrics: None,
) -> None:
    """Train and measure the given seeds of a variant through one set of compiled programs."""
    run = suite.run(variant)
    programs = Programs(run, source.train)
    evaluator = Evaluator(programs.model)
    if sweep:
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
        scores = {}
        for rate in suite.learning_rates:
            candidate = replace(run, {"optimiser.learning_rate": rate})
            where = file.parent / f"rate{rate:g}"
            label = f"{variant} rate {rate:g}"
            feed = Feed(candidate, source.train, SWEEP_SEED)
            state = fit(programs, feed, where, progress=functools.partial(progress, label))
            examples = source.splits["validation"]
            said = evaluator.predict(state.params, examples, attention=False)
            scores[rate] = float(right_answers(examples, said, questions(examples)).mean())
        best = max(scores, key=lambda rate: (scores[rate], -rate))
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
      sweep: variant to the record of its learning-rate sweep, empty when none ran.
    """

    runs: list[dict[str, Any]]
    chance: dict[str, float]
    items: dict[str, np.ndarray]
    curves: dict[str, dict[int, dict[str, list[float]]]]
    timings: dict[str, dict[str, Any]]
    sweep: dict[str, Any]


def collect(suite: Suite, folder: Folder, seeds: int) -> Finished:
    """Read back the runs of all variants and seeds."""
    finished = Finished([], {}, {}, {}, {}, {})
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
        finished.items[variant] = np.stack(items)
        finished.timings[variant] = {
            "parameters": parameters,
            "step_seconds": round(float(np.median(paces)), 6),
        }
        chosen = folder.path / "sweep" / variant / "chosen.json"
        if chosen.exists():
            finished.sweep[variant] = json.loads(chosen.read_text())
    return finished


def _pace(lines: list[dict[str, Any]]) -> float:
    """Median seconds per step between logged lines: neither compilation nor a pause counts."""
    times = np.array([line["time"] for line in lines])
    steps = np.array([line["step"] for line in lines])
    return float(np.median(np.diff(times) / np.diff(steps))) if len(lines) > 1 else float("nan")


def environment() -> dict[str, Any]:
    """Versions and hardware behind the numbers."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "flax": flax.__version__,
        "numpy": np.__version__,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "processor": platform.machine(),
    }
