"""The finished runs of a suite, read back from their folders."""

import dataclasses
import json
from typing import Any

import numpy as np

from crossattn.train import rate_sweep, references
from crossattn.train.folder import Folder
from crossattn.train.record import UNGROUPED
from crossattn.train.suite import COSTS, Suite
from crossattn.train.utilization import rate


@dataclasses.dataclass(frozen=True)
class Finished:
    """All finished runs of a suite: the rows of results.json and the files behind them.

    Attributes:
      runs: {variant, seed, metrics, cost} each.
      chance: metric to its chance level.
      items: variant to (seeds, N) single items of the primary metric.
      curves: variant to seed to lists by name: step, loss, accuracy, and the terms of a loss.
      timings: variant to {parameters, step_seconds}, with step_flops and teraflops (and mfu) where
        they are known, and seeds_together where it is over 1.
      versions: of the libraries, by those that differ between runs.
      processors, devices: the kinds that runs were measured on.
      threads: of the processors, all numbers that there were.
      counts: images by split, items by metric, training images, as the runs counted them.
      groupings: seeds of a program and steps of a dispatch, all that there were.
      sweep: variant to the record of its learning-rate sweep, empty when none ran.
      references: reference rows, {variant, seed, metrics} each: see `references`.
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
    threads: list[int] = dataclasses.field(default_factory=list)
    counts: dict[str, Any] = dataclasses.field(default_factory=dict)
    groupings: list[dict[str, int]] = dataclasses.field(default_factory=list)
    references: list[dict[str, Any]] = dataclasses.field(default_factory=list)


def collect(suite: Suite, folder: Folder, seeds: int) -> Finished:
    """Read back the runs that are finished (see `Folder.finished`), variants in their order."""
    finished = Finished([], {}, {}, {}, {}, {}, [])
    # Times differ whenever a suite is run again: they are among its numbers where it claims them.
    costs = any(claim[2].startswith("cost/") for claim in suite.claims if len(claim) > 2)
    for variant in suite.variants:
        items, records = [], []
        for seed in range(seeds):
            if not folder.finished(variant, seed):
                continue
            where = folder.run(variant, seed)
            record = json.loads((where / "metrics.json").read_text())
            run = {name: record[name] for name in ("variant", "seed", "metrics")}
            finished.runs.append({**run, "cost": _cost(record)} if costs else run)
            if variant == suite.baseline:
                rows = references.read_references(where)
                finished.references.extend(
                    {"variant": name, "seed": seed, "metrics": rows[name]} for name in rows
                )
            with np.load(where / "items.npz") as kept:
                items.append(kept[suite.primary])
            finished.curves.setdefault(variant, {})[seed] = record["curve"]
            _counted(finished, record)
            records.append(record)
        if not items:
            continue
        finished.items[variant] = np.stack(items)
        finished.timings[variant] = _timings(records)
        chosen = folder.path / "sweep" / variant / rate_sweep.FILE
        if chosen.exists():
            finished.sweep[variant] = json.loads(chosen.read_text())
    return finished


def _timings(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Parameters and times of a variant, by the records of its seeds: see `Finished.timings`."""
    last = records[-1]
    found = {"parameters": last["parameters"]}
    paces = [one["step_seconds"] for one in records if one["step_seconds"] is not None]
    if paces:
        seconds = float(np.median(paces))
        found["step_seconds"] = round(seconds, 6)
        if work := last.get("work"):
            speed = rate(work["step_flops"] / seconds, work["peak_flops"])
            found |= {"step_flops": work["step_flops"], **speed}
    several = [one["seeds"] for record in records for one in _groupings(record)]
    if (together := max(several, default=1)) > 1:
        found["seeds_together"] = together
    return found


def _groupings(record: dict[str, Any]) -> list[dict[str, int]]:
    """How a run was trained; of earlier versions, which do not say it, one seed and step."""
    return record.get("groupings", [UNGROUPED])


def _cost(record: dict[str, Any]) -> dict[str, int | float]:
    """What claims may say of the cost of a run; a pace is not known where too little was logged."""
    found = {f"cost/{name}": record[name] for name in COSTS}
    return {name: amount for name, amount in found.items() if amount is not None}


def _counted(finished: Finished, record: dict[str, Any]) -> None:
    """Add what a run says of how and where it ran and of what it counted.

    Runs of earlier versions say nothing of where and how many.
    """
    finished.chance.update(record["chance"])
    if record["versions"] not in finished.versions:
        finished.versions.append(record["versions"])
    known = finished.groupings
    known.extend(one for one in _groupings(record) if one not in known)
    kinds: dict[str, list[Any]] = {"processor": finished.processors, "device": finished.devices}
    for name, there in {**kinds, "threads": finished.threads}.items():
        if name in record and record[name] not in there:
            there.append(record[name])
    for what, number in record.get("counts", {}).items():
        if isinstance(number, dict):
            finished.counts.setdefault(what, {}).update(number)
        else:
            finished.counts[what] = number
