"""Trained runs on the disk: found by their folder, and built again with their parameters."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.spelling import nearest
from crossattn.train import record
from crossattn.train.checkpoint import Checkpoints, newest
from crossattn.train.loop import TrainPrograms
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.quiet import quiet_logs
from crossattn.train.record import RunRecord
from crossattn.train.restored import WITHOUT_DIGEST
from crossattn.train.source import Dataset, batches_of, load_dataset
from crossattn.train.texts import CONTRASTS, captions, questions


class UnusableRunError(ValueError):
    """A folder holds no trained run that can be measured or shown; says what to give instead."""


class TrainedRun(NamedTuple):
    """A run with what it learnt.

    Attributes:
      folder: of the run.
      record: its settings.
      source: its data.
      model: of its settings, over the devices of the parallelism.
      params: that it is judged by.
      step: of the checkpoint that they are from.
    """

    folder: Path
    record: RunRecord
    source: Dataset
    model: VisionLanguageDecoder
    params: Any
    step: int


def find_run(
    path: Path, variant: str | None = None, seed: int | None = None
) -> tuple[Path, int | None]:
    """The folder of a run, and the step where one of its checkpoints is meant; reads names only.

    Args:
      path: folder of a run or its run.json, folder of one checkpoint, or of a suite.
      variant: which one of a suite's folder.
      seed: likewise.

    Raises:
      UnusableRunError: there is no such run.
    """
    folder, step = path, None
    if folder.name == record.FILE and folder.is_file():
        folder = folder.parent
    if folder.is_file():
        raise UnusableRunError(f"{folder} is a file: give the folder of a run, or {record.FILE}")
    if not folder.is_dir():
        raise UnusableRunError(f"there is no folder {folder}")
    if folder.name.isdigit() and folder.absolute().parent.name == "checkpoints":
        folder, step = folder.absolute().parent, int(folder.name)
    if folder.name == "checkpoints":
        folder = folder.absolute().parent
    if (folder / "runs").is_dir():
        return _of_suite(folder, variant, seed), None
    if variant is not None or seed is not None:
        raise UnusableRunError(f"{folder} is no suite's folder: leave out --variant and --seed")
    if not (folder / record.FILE).exists():
        raise UnusableRunError(
            f"{folder} is no run, it has no {record.FILE}: give a folder like "
            "results/SUITE/runs/VARIANT/seed0, or results/SUITE with --variant and --seed"
        )
    return folder, step


def variants_in(folder: Path) -> list[str]:
    """Variants of a suite's folder that have been begun, in the order of their names."""
    return sorted(path.name for path in (folder / "runs").iterdir() if path.is_dir())


def _of_suite(folder: Path, variant: str | None, seed: int | None) -> Path:
    variants = variants_in(folder)
    if variant is None:
        names = ", ".join(variants)
        raise UnusableRunError(f"{folder} holds a suite: add --variant ({names}) and --seed")
    if variant not in variants:
        hint = nearest(variant, variants)
        raise UnusableRunError(f"{folder} has no variant {variant!r}: {hint}")
    within = folder / "runs" / variant
    seeds = sorted(path.name.removeprefix("seed") for path in within.glob("seed*"))
    if seed is None or str(seed) not in seeds:
        known = ", ".join(seeds)
        raise UnusableRunError(f"{within} has the seeds {known}: add --seed with one of them")
    return within / f"seed{seed}"


def open_run(folder: Path) -> tuple[RunRecord, Dataset]:
    """What a run is, and its data, loaded or made again.

    Raises:
      RecordError: run.json cannot be read.
      UnusableRunError: the data cannot be loaded.
    """
    of = record.read_record(folder)
    try:
        return of, load_dataset(of.run)
    except ValueError as error:
        raise UnusableRunError(f"{folder}: {error}") from None


def judged_split(source: Dataset, name: str | None, option: str = "split") -> str:
    """The split that is measured or shown: it has questions or captions; the main one when None.

    Raises:
      UnusableRunError: there is no such split, or it has foils (swap), which are neither; begins
        with the name of the option.
    """
    known = [
        split
        for split, part in source.splits.items()
        if split not in ("swap", *CONTRASTS) and len(questions(part)) + len(captions(part))
    ]
    if name is None:
        return source.main
    if name not in known:
        what = "has no questions" if name in source.splits else "is no split of this run's data"
        raise UnusableRunError(f"{option} {name} {what}: {nearest(name, known)}")
    return name


def load_trained(
    folder: Path,
    of: RunRecord,
    source: Dataset,
    step: int | None = None,
    *,
    parallel: Parallelism = SINGLE_DEVICE,
    notify: Callable[[str], None] = warnings.warn,
) -> TrainedRun:
    """Build a run's model again, and read its newest checkpoint or that of a step.

    Args:
      folder: of the run, which is only read.
      of: what `open_run` says that it is.
      source: its data.
      step: of the checkpoint; the newest that can be read when None.
      parallel: how parameters and attention lie over devices.
      notify: told of newer checkpoints that are damaged, and of one without a digest.

    Raises:
      UnusableRunError: there is no checkpoint yet.
      CheckpointError: none can be read, or it is of another model.
    """
    where = folder / "checkpoints"
    if newest(where) is None:
        raise UnusableRunError(f"{folder} has no checkpoint yet: train the run first")
    # Its parameters are those of the checkpoint, whatever it started with.
    programs = TrainPrograms(dataclasses.replace(of.run, initial=""), source.vocabulary)
    batch = batches_of(of.run, source.train, of.seed).batch(0)
    shapes = jax.eval_shape(programs.create, of.seed, batch)
    like = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        parallel.shardings(shapes),
    )
    with quiet_logs(), Checkpoints(where, read_only=True) as checkpoints:
        restored = checkpoints.restore(like, step=step)
    for damaged in restored.damaged:
        notify(f"{where / str(damaged)} is damaged: taking that of step {restored.step} instead")
    if not restored.checked:
        notify(f"{folder}: {WITHOUT_DIGEST.format(step=restored.step)}")
    model = programs.model.clone(layout=parallel.layout(of.run))
    return TrainedRun(folder, of, source, model, restored.state.evaluated, restored.step)


def untrained_parameters(of: RunRecord, source: Dataset) -> Any:
    """What a run would be judged by before its first step: a pure function of its seed."""
    programs = TrainPrograms(of.run, source.vocabulary)
    return programs.create(of.seed, batches_of(of.run, source.train, of.seed).batch(0)).evaluated
