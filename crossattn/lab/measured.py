"""Finished runs of any folder, as numbers by variant and seed; nothing is trained or loaded."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.fields import changes_between
from crossattn.files import contents
from crossattn.lab.errors import LabError
from crossattn.report.render.escaping import visible
from crossattn.spelling import nearest
from crossattn.train.record import FILE, read_record
from crossattn.train.run import BATCHING, Run
from crossattn.train.run_folder import VARIANT

# Settings of data that say nothing of what models are judged by.
TRAINING_ONLY = ("images", *BATCHING)


@dataclasses.dataclass(frozen=True)
class MeasuredRuns:
    """The finished runs of one variant.

    Attributes:
      name: of the variant.
      folders: of the runs by seed, in the order of the seeds.
      records: the content of each metrics.json.
    """

    name: str
    folders: dict[int, Path]
    records: dict[int, dict[str, Any]]

    @property
    def seeds(self) -> list[int]:
        """Of the finished runs."""
        return list(self.records)

    @property
    def metrics(self) -> list[str]:
        """That every run has."""
        first, *rest = (record["metrics"] for record in self.records.values())
        return [name for name in first if all(name in other for other in rest)]

    @property
    def primary(self) -> str | None:
        """The metric whose single items are kept: that by which the runs were judged."""
        return next(iter(_items(self.folders[self.seeds[0]])), None)

    def scores(self, metric: str) -> np.ndarray:
        """Scores (seeds, items), or (seeds, 1) where no single items of the metric are kept.

        Raises:
          LabError: there is no such metric, or items are not those of the metric.
        """
        if metric not in self.metrics:
            raise LabError(
                f"{self.name!r} has no metric {metric!r}: {nearest(metric, self.metrics)}"
            )
        values = np.array([record["metrics"][metric] for record in self.records.values()], float)
        kept = [_items(folder).get(metric) for folder in self.folders.values()]
        rows = [row for row in kept if row is not None and row.size]
        if len(rows) < len(kept) or len({row.shape for row in rows}) > 1:
            return values[:, None]
        scores = np.stack(rows).astype(float)
        if np.abs(scores.mean(1) - values).max() > 1e-4:
            raise LabError(f"{self.name!r}: its items do not average to its {metric}")
        return scores

    @property
    def run(self) -> Run:
        """Settings of the first of them; their seeds are all in which they differ.

        Raises:
          RecordError: run.json cannot be read.
        """
        return read_record(self.folders[self.seeds[0]]).run

    def judged_by(self, metric: str) -> list[dict[str, Any]]:
        """What decides the items of each run: settings of its data, and how many items there are.

        Raises:
          RecordError: run.json cannot be read.
        """
        found = []
        for seed, folder in self.folders.items():
            data = dataclasses.asdict(read_record(folder).run.data)
            told = {name: value for name, value in data.items() if name not in TRAINING_ONLY}
            counts = self.records[seed].get("counts", {}).get("items", {})
            found.append({**told, "items": counts.get(metric)})
        return found


def settings_that_differ(pairs: Sequence[tuple[MeasuredRuns, MeasuredRuns]]) -> list[str]:
    """Settings in which the sides of every pair differ, like "steps 40, 20"."""
    said = [_differing(*pair) for pair in pairs]
    return [one for one in said[0] if all(one in others for others in said[1:])]


def _differing(first: MeasuredRuns, second: MeasuredRuns) -> list[str]:
    there, here = changes_between(second.run, first.run), changes_between(first.run, second.run)
    return [f"{path} {_short(there[path])}, {_short(here[path])}" for path in here]


def _short(value: Any) -> str:
    return type(value).__name__ if dataclasses.is_dataclass(value) else str(value) or "none"


def measured_runs(path: str | Path) -> dict[str, MeasuredRuns]:
    """Finished runs by variant: of a suite's folder, of one of its variants, or a single run.

    Raises:
      LabError: there is none, or a file of one is damaged.

    Example:
      >>> measured_runs("nowhere")
      Traceback (most recent call last):
        ...
      crossattn.lab.errors.LabError: there is no folder nowhere
    """
    folder = Path(path)
    if folder.name == FILE and folder.is_file():
        folder = folder.parent
    if not folder.is_dir():
        raise LabError(f"there is no folder {path}")
    if (folder / "runs").is_dir():
        places = sorted(place for place in (folder / "runs").iterdir() if place.is_dir())
        found = {place.name: _of_variant(place) for place in places}
    elif (folder / FILE).is_file():
        found = {"": _finished([folder])}
    else:
        found = {folder.name: _of_variant(folder)}
    found = {name: runs for name, runs in found.items() if runs}
    if not found:
        said = "no run of it is measured yet" if any(folder.rglob(FILE)) else "it holds no run"
        raise LabError(
            f"{path}: {said}: give a suite's folder like results/fusion, "
            "results/fusion/runs/VARIANT, or a run's"
        )
    made = {}
    for name, runs in found.items():
        name = visible(name or str(next(iter(runs.values()))[1].get("variant", VARIANT)))
        folders = {seed: where for seed, (where, _) in sorted(runs.items())}
        records = {seed: record for seed, (_, record) in sorted(runs.items())}
        made[name] = MeasuredRuns(name, folders, records)
    return made


def is_quick(path: str | Path) -> bool:
    """Whether the runs of a folder are those of a quick suite, which concludes nothing."""
    folder = Path(path).absolute()
    for place in (folder, *folder.parents[:4]):
        if (place / "results.json").is_file():
            return bool(_read_json(place / "results.json").get("asked", {}).get("quick"))
    return False


def _of_variant(folder: Path) -> dict[int, tuple[Path, dict[str, Any]]]:
    return _finished([place for place in folder.glob("seed*") if place.is_dir()])


def _finished(folders: list[Path]) -> dict[int, tuple[Path, dict[str, Any]]]:
    """Folder and metrics.json by seed."""
    measured = [place for place in folders if (place / "metrics.json").exists()]
    found = {}
    for place in measured:
        record = _read_json(place / "metrics.json")
        if not isinstance(record.get("metrics"), dict) or not isinstance(record.get("seed"), int):
            raise LabError(f"{place / 'metrics.json'} is damaged: it has no metrics, or no seed")
        found[record["seed"]] = (place, record)
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(contents(path))
    except (ValueError, RecursionError):
        raise LabError(f"{path} is damaged: it is no JSON") from None
    if not isinstance(found, dict):
        raise LabError(f"{path} is damaged: it holds no results")
    return found


def _items(folder: Path) -> dict[str, np.ndarray]:
    path = folder / "items.npz"
    if not path.exists():
        return {}
    try:
        with np.load(io.BytesIO(contents(path))) as kept:
            return {name: kept[name] for name in kept.files}
    except (ValueError, EOFError, zipfile.BadZipFile):
        raise LabError(f"{path} is damaged: it holds no arrays") from None
