"""A request from the first step to the report: what commands and calls share."""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from crossattn.files import printable
from crossattn.lab import training
from crossattn.lab.explorers import write_suite_explorer
from crossattn.lab.galleries import build_gallery, gallery_of
from crossattn.lab.loading import keep_programs, load_checked, load_judged
from crossattn.lab.request import Request, prepare_request
from crossattn.launch.devices import describe_parallelism, hold_folder, left_to_run
from crossattn.launch.launcher import check_changed, check_free, launch_suite
from crossattn.launch.progress import tell_user
from crossattn.launch.results import asked, left_out, measured_before, write_results
from crossattn.report import document, evaluation
from crossattn.report.render.blocks import TableBlock
from crossattn.train.finished import collect
from crossattn.train.folder import pending
from crossattn.train.multihost import broadcast, is_writer
from crossattn.train.parallel import Parallelism
from crossattn.train.primary import fit_to_data
from crossattn.train.references import read_references
from crossattn.train.run_folder import NAME, VARIANT
from crossattn.train.source import Dataset
from crossattn.train.suite import Suite


def run_suite(
    request: Request, source: Dataset | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Run what is not finished, and write the report.

    Args:
      request: what is asked for.
      source: the data of the suite, where they are loaded already.

    Returns:
      The path of report.md and the content of results.json; None where another process writes.

    Raises:
      ValueError, RuntimeError, ArithmeticError: one of `EXPECTED`.
    """
    parallel = prepare_request(request)
    with hold_folder(request.folder, request.command, functools.partial(_check_free, request)):
        keep_programs()
        source = source or load_checked(request.suite)
        whole, suite = (fit_to_data(one, source) for one in (request.whole, request.suite))
        request = dataclasses.replace(request, whole=whole, suite=suite)
        if is_writer():
            for line in request.folder.changes(request.whole):
                request.say(line)
            request.folder.claim(request.whole)
        render = functools.partial(_report, request, source, parallel)
        device = _run_left(request, source, parallel, render)
        return render(device, last=True) if is_writer() else None


def _check_free(request: Request) -> None:
    folder, whole = request.folder, request.whole
    folder.check(whole)  # another process may have been here in between
    check_free(folder, request.launch)
    check_changed(folder, {one.variant for one in folder.stale(whole)})
    left = pending(request.suite, folder, request.seeds)
    folder.check_room(sum(len(more) for _, more in left))


def _run_left(
    request: Request,
    source: Dataset,
    parallel: Parallelism,
    render: Callable[[str], tuple[Path, dict[str, Any]]],
) -> str:
    """Run what is not finished, a variant per device or as jobs; returns what it ran on.

    The report is there from the first finished variant on, and written again after others, as
    long as that takes at most a tenth of the time.
    """
    suite, folder, seeds = request.suite, request.folder, request.seeds
    todo = left_to_run(suite, folder, seeds)
    runs = sum(len(some) for _, some in todo)
    if is_writer() and (done := len(suite.variants) * seeds - runs):
        tell_user(f"{done} {'run is' if done == 1 else 'runs are'} finished, {runs} to go")
        for line in measured_before(suite, folder, seeds):
            request.say(line)
    if request.launch.elsewhere:
        jobs = (suite, folder, seeds, request.launch, request.caller)
        return launch_suite(*jobs, request.loggers)

    due = 0.0

    def renew(notify: Callable[[str], None]) -> None:
        nonlocal due
        if (began := time.monotonic()) < due:
            return
        path, results = render(training.describe_devices())
        due = began + 10 * (time.monotonic() - began)
        done, wanted = len(results["runs"]), len(suite.variants) * seeds
        page = printable(path.with_suffix(".html"))
        notify(f"{done} of {wanted} runs are finished, report so far: {page}")

    return training.train_all(request, todo, source, parallel, renew)


def _report(
    request: Request,
    source: Dataset,
    parallel: Parallelism,
    device: str,
    *,
    last: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Write results.json, and report.md with its figures, of the runs that are finished.

    Beside the last one stands explore.html, which costs seconds.
    """
    whole, suite, folder = request.whole, request.suite, request.folder
    finished = collect(suite, folder, request.seeds)
    wanted = asked(whole, suite, seeds=request.seeds, quick=request.quick)
    seeds = describe_parallelism(parallel, finished.groupings)
    results = write_results(suite, folder, finished, device, seeds, wanted, source.describe())
    shown = [suite.baseline, *suite.variants]
    path = document.write_report(
        results,
        folder.path,
        title=suite.title,
        claims=suite.claims,
        curves=finished.curves,
        shown=gallery_of(source, folder, shown),
        samples=source.samples,
        notes=(*suite.notes, *left_out(whole, suite)),
        explorer=write_suite_explorer(source, folder, shown, request.say) if last else "",
        command=request.command,
    )
    return path, results


def run_alone(request: Request, seed: int) -> tuple[dict[str, Any], list[TableBlock]] | None:
    """Train one model with a seed, measure it, and write its report into a `RunFolder`.

    What is finished is only reported again.

    Returns:
      The content of metrics.json and the tables of the report; None where another process writes.

    Raises:
      ValueError, RuntimeError, ArithmeticError: one of `EXPECTED`.
    """
    folder, suite = request.folder, request.suite

    def prepare() -> None:
        folder.check(suite)  # another process may have been here in between
        folder.check_room(1)

    parallel = prepare_request(request)
    with hold_folder(folder, request.command, prepare, name=request.caller):
        keep_programs()
        suite, source = load_judged(suite)
        if is_writer():
            folder.claim(suite)
        done = broadcast([folder.finished(VARIANT, seed)])[0]
        todo = [] if done else [(VARIANT, [seed])]
        training.train_all(dataclasses.replace(request, suite=suite), todo, source, parallel)
        return _report_alone(request, suite, source) if is_writer() else None


def _report_alone(
    request: Request, suite: Suite, source: Dataset
) -> tuple[dict[str, Any], list[TableBlock]]:
    out = request.folder.path
    maps = out / "maps.npz"
    measured: Mapping[str, Any] = json.loads((out / "metrics.json").read_text())
    content = {**measured, "suite": NAME, "step": suite.base.steps, "split": source.main}
    content["references"] = read_references(out)
    shown = build_gallery(source, maps) if maps.exists() else None
    explorer = write_suite_explorer(source, request.folder, [VARIANT], request.say)
    return content, evaluation.write_evaluation(out, content, shown, explorer)
