"""From the folder of a run, or of a suite, to the page on which its words light up."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crossattn import viewer
from crossattn.data.examples import Examples
from crossattn.lab.shown import shown_examples
from crossattn.train.exhibits import example_rows
from crossattn.train.record import RunRecord, read_record
from crossattn.train.run import Run
from crossattn.train.source import Dataset
from crossattn.train.trained import (
    TrainedRun,
    UnusableRunError,
    find_run,
    judged_split,
    load_trained,
    open_run,
    variants_in,
)

Notify = Callable[[str], None]
# Of a suite's folder where none is asked for.
SEED = 0


def explore_folder(
    folder: str | Path,
    variant: str | None = None,
    seed: int | None = None,
    examples: int = 8,
    compare: str | Path | None = None,
    *,
    split: str | None = None,
    notify: Notify = warnings.warn,
) -> viewer.Page:
    """Make the page of a trained run: its words, where they look, and what it says without that.

    Examples are held out and drawn at random from a fixed seed, all kinds of text in turn. Shown
    are all layers and heads; of a connector's latents the product of both maps, of a single stream
    the share of all weight that falls on patches.

    Args:
      folder: of a run (or its run.json, or of one of its checkpoints), or of a suite.
      variant: which one of a suite's folder; the first that looks at patches when None.
      seed: likewise; 0 when None.
      examples: how many texts.
      compare: another variant of the same suite, or the folder of another run on the same data,
        which is shown side by side.
      split: which texts; those of the main split when None.
      notify: told of damaged checkpoints that were passed over.

    Raises:
      UnusableRunError: there is no such run, it is not trained yet, or it does not look at patches.
      RecordError: run.json cannot be read.
      CheckpointError: no checkpoint can be read.
    """
    if examples < 1:
        raise UnusableRunError(f"--examples must be at least 1, got {examples}")
    where, step = find_shown(Path(folder), variant, seed)
    other, other_step = (None, None) if compare is None else _find_other(where, compare)
    for run in filter(None, (where, other)):
        _check_attends(run)
    of, source = open_run(where)
    name = judged_split(source, split, "--split")
    one = load_trained(where, of, source, step, notify=notify)
    if other is None:
        return explore_trained(one, examples, split=name)
    two = load_trained(other, *_open_beside(other, one), other_step, notify=notify)
    if not _same_texts(source.splits[name], two.source.splits.get(name)):
        raise UnusableRunError(
            f"{where} and {other} have other texts: runs side by side are of the same data"
        )
    rows = example_rows(source.splits[name], examples)
    return viewer.explore(
        shown_examples(one, name, rows),
        title=" beside ".join(_titles(one, two)),
        compare=shown_examples(two, name, rows),
        names=_names(one, two),
    )


def explore_trained(run: TrainedRun, examples: int = 8, *, split: str | None = None) -> viewer.Page:
    """The page of a run that is there already, see `explore_folder`."""
    name = split or run.source.main
    rows = example_rows(run.source.splits[name], examples)
    return viewer.explore(shown_examples(run, name, rows), title=_title(run))


def find_shown(
    path: Path, variant: str | None = None, seed: int | None = None
) -> tuple[Path, int | None]:
    """The folder of the run that `explore_folder` shows, and the step of a checkpoint."""
    if not (path / "runs").is_dir():
        return find_run(path, variant, seed)
    seed = SEED if seed is None else seed
    return find_run(path, variant or _attending(path, seed), seed)


def _attending(folder: Path, seed: int) -> str:
    """The first variant of a suite's folder that looks at patches: its baseline, or in its order.

    Raises:
      UnusableRunError: there is none.
    """
    begun = variants_in(folder)
    try:
        results = json.loads((folder / "results.json").read_text())
        order = [results.get("baseline"), *results["changes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        order = []
    place = lambda name: order.index(name) if name in order else len(order)
    for variant in sorted(begun, key=place):
        run = folder / "runs" / variant / f"seed{seed}"
        if (run / "checkpoints").is_dir() and read_record(run).run.model.attends:
            return variant
    raise UnusableRunError(f"{folder} has no trained variant with seed {seed} that sees patches")


def _find_other(folder: Path, compare: str | Path) -> tuple[Path, int | None]:
    """A variant of the suite of a run, with its seed, or else the run of another folder."""
    runs = folder.absolute().parents[1]
    if runs.name == "runs":
        known = str(compare) in variants_in(runs.parent)
        if known or not Path(compare).exists():
            return find_run(runs.parent, str(compare), read_record(folder).seed)
    return find_run(Path(compare))


def _check_attends(folder: Path) -> None:
    """Make sure that a run looks at patches.

    Raises:
      UnusableRunError: it looks at none.
    """
    of = read_record(folder)
    if not of.run.model.attends:
        raise UnusableRunError(
            f"{folder} has no maps to show: {of.variant} looks at no single patches "
            f"(model.context_view {of.run.model.context_view}); choose another variant"
        )


def _open_beside(folder: Path, one: TrainedRun) -> tuple[RunRecord, Dataset]:
    """As `open_run`, of a run beside another, whose data are taken where they are the same."""
    of = read_record(folder)
    return (of, one.source) if _data(of.run) == _data(one.record.run) else open_run(folder)


def _same_texts(one: Examples, two: Examples | None) -> bool:
    """Whether two splits have the same texts about the same pictures."""
    return (
        two is not None
        and one.vocabulary == two.vocabulary
        and np.array_equal(one.tokens, two.tokens)
        and np.array_equal(one.image, two.image)
        # Patches differ between encoders.
        and (one.grid != two.grid or np.array_equal(one.coverage, two.coverage))
    )


def _data(run: Run) -> tuple[Any, ...]:
    """All that decides what `load_dataset` loads."""
    return run.data, run.model.image_encoder, "boxes" in run.model.contexts


def _title(one: TrainedRun) -> str:
    of = one.record
    return f"{of.suite}: {of.variant}, seed {of.seed}, step {one.step}"


def _names(one: TrainedRun, two: TrainedRun) -> tuple[str, str]:
    """The shortest names that tell two runs apart."""
    for name in (
        lambda run: run.record.variant,
        lambda run: f"{run.record.variant}, seed {run.record.seed}",
    ):
        if name(one) != name(two):
            return name(one), name(two)
    return _titles(one, two)


def _titles(one: TrainedRun, two: TrainedRun) -> tuple[str, str]:
    """The titles of two runs; with their folders where these are two of one variant and seed."""
    of, other = one.record, two.record
    a, b = _place(one), _place(two)
    if (of.variant, of.seed) != (other.variant, other.seed) or a == b:
        return _title(one), _title(two)
    names = (a.name, b.name) if a.name != b.name else (str(a), str(b))
    return f"{_title(one)} ({names[0]})", f"{_title(two)} ({names[1]})"


def _place(run: TrainedRun) -> Path:
    """The folder by which people know a run: its suite's, or its own."""
    folder = run.folder.absolute()
    return folder.parents[2] if folder.parents[1].name == "runs" else folder
