"""What a run leaves when it is measured, and what its log says of its time."""

import io
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from crossattn.align.evidence import Evidence
from crossattn.align.measures import MEASURES
from crossattn.files import seal, write_atomically
from crossattn.nn.parameters import count_parameters
from crossattn.train import exhibits, references
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import measure_model
from crossattn.train.log import Log, curve, read_lines
from crossattn.train.multihost import is_writer
from crossattn.train.open_loggers import NO_LOGGERS, OpenLoggers
from crossattn.train.record import UNGROUPED, library_versions, processor
from crossattn.train.run import Run
from crossattn.train.source import Dataset
from crossattn.train.stale import MEASURED
from crossattn.train.step import State


def measure_run(
    primary: str,
    run: Run,
    evaluator: Evaluator,
    state: State,
    source: Dataset,
    where: Path,
    who: dict[str, Any],
    loggers: OpenLoggers = NO_LOGGERS,
    untrained: Any = None,
) -> None:
    """Measure a trained run and write what is found: metrics.json, items.npz, maps.npz.

    Of the baseline also references.json, by its parameters before the first step (`untrained`).
    """
    begun = time.monotonic()
    given = evaluator, state.evaluated, source.splits
    evidence = measure_model(*given, main=source.main, learned=run.loss)
    items = {name: evidence.items[name] for name in evidence.items if name == primary}
    _save_arrays(where / "items.npz", items)
    if evaluator.patches_seen:
        maps = exhibits.exhibit_attention(evaluator, state.evaluated, source, evidence.layer)
        _save_arrays(where / "maps.npz", {"weights": maps})
    more = ["maps.npz"] * evaluator.patches_seen
    if untrained is not None:
        seed = int(who["seed"])
        rows = references.measure_references(
            evaluator, untrained, source.splits, main=source.main, seed=seed
        )
        write_json(where / references.FILE, rows)
        more.append(references.FILE)
    with Log(where / "log.jsonl", resume_at=run.steps) as log:
        log.write(run.steps, event="measured", seconds=round(time.monotonic() - begun, 3))
    record = who | _measured(run, state, source, where, evidence)
    write_json(where / "metrics.json", record)
    seal_files(where, *MEASURED, *more)
    loggers.log({"step": run.steps, "event": "measured", **evidence.metrics, "time": time.time()})


def _measured(
    run: Run, state: State, source: Dataset, where: Path, evidence: Evidence
) -> dict[str, Any]:
    """What is written down of a run: its numbers, and what they were counted and timed on."""
    lines = curve(where / "log.jsonl")
    return {
        "metrics": evidence.metrics,
        "measures": list(MEASURES),
        "chance": evidence.chance,
        "counts": {
            "images": {name: len(np.unique(x.image)) for name, x in source.splits.items()},
            "items": evidence.counts(),
            "training_images": source.trained,
        },
        "layer": evidence.layer,
        "curve": curves_of(lines),
        "step_seconds": _pace(lines),
        "groupings": groupings(where, run.steps),
        "parameters": count_parameters(state.params),
        "learning_rate": run.optimizer.learning_rate,
        "versions": library_versions(),
        "processor": processor(),
        "threads": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write a record, by one of several processes."""
    if is_writer():
        write_atomically(path, json.dumps(record, indent=1) + "\n")


def seal_files(folder: Path, *names: str) -> None:
    """Write down checksums, by one of several processes."""
    if is_writer():
        seal(folder, names)


def _save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    if not is_writer():
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def curves_of(lines: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Lists of step, loss, the accuracy of words that are learned, and terms of the loss if any."""
    terms = [name for name in (lines[-1] if lines else ()) if name.startswith("loss/")]
    names = ("step", "loss", "accuracy", *terms)
    there = [name for name in names if all(name in line for line in lines)]
    return {name: [line[name] for line in lines] for name in there}


def pace(folder: Path) -> float | None:
    """Median seconds per step of a run, from its log; None where too little was logged."""
    return _pace(curve(folder / "log.jsonl"))


def groupings(folder: Path, steps: int) -> list[dict[str, int]]:
    """How a run of so many steps was trained, from its log: more than one way where it went on."""
    begun = [
        {name: line.get(name, UNGROUPED[name]) for name in UNGROUPED}
        for line in read_lines(folder / "log.jsonl")
        if line.get("event") in ("start", "resume") and line["step"] < steps
    ]
    return [one for i, one in enumerate(begun) if one not in begun[:i]]


def evaluation_seconds(folder: Path) -> float | None:
    """What measuring a run took, from its log; of earlier versions the time since its last step."""
    path = folder / "log.jsonl"
    trained = [line["time"] for line in curve(path)]
    measured = [line for line in read_lines(path) if line.get("event") == "measured"]
    if not trained or not measured:
        return None
    return measured[0].get("seconds", measured[0]["time"] - trained[-1])


def _pace(lines: list[dict[str, Any]]) -> float | None:
    """Median seconds per step between logged lines: neither compilation nor a pause counts.

    Where a program makes several steps, the lines of them are written when it has ended. The time
    of seeds that are trained together is divided by their number.
    """
    written = {line.get("chunk_end", line["step"]): line for line in lines}
    if len(written) < 2:
        return None
    times = np.array([line["time"] for line in written.values()])
    seeds = np.array([line.get("seeds", 1) for line in written.values()])
    return float(np.median(np.diff(times) / np.diff(list(written)) / seeds[1:]))
