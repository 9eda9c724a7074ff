"""Run an ablation suite, resume it, and write its report.

python -m experiments.ablate fusion
python -m experiments.ablate fusion --quick
python -m experiments.ablate fusion --dry-run
python -m experiments.ablate fusion --variants blind mean-pool --seeds 3
python -m experiments.ablate fusion --mesh data=4,tensor=2
python -m experiments.ablate fusion --mesh seed=4
python -m experiments.ablate fusion --distributed node0:1234 2 0      (and 2 1 on the other)
python -m experiments.ablate fusion --launcher slurm --partition cpu --minutes 30
python -m experiments.ablate easy_vqa --seeds 3 --steps 3000 --out results/longer
python -m experiments.ablate folder --data.directory pictures        (pictures of your own)
python -m experiments.ablate ./mine.py                               (a suite of your own)
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from crossattn.files import printable
from crossattn.launch.devices import Devices, describe_parallelism, hold_folder, left_to_run
from crossattn.launch.interrupts import describe_progress, graceful_interrupt
from crossattn.launch.launcher import (
    check_changed,
    check_free,
    describe_active,
    describe_jobs,
    launch_suite,
)
from crossattn.launch.options import Launch, LogOptions
from crossattn.launch.results import asked, left_out, write_results
from crossattn.plan import dry_run
from crossattn.report.document import write_report
from crossattn.report.tables.main import terminal_report
from crossattn.spelling import nearest
from crossattn.train.folder import Folder, pending
from crossattn.train.multihost import is_writer
from crossattn.train.outcome import collect
from crossattn.train.parallel import Parallelism
from crossattn.train.primary import fit_to_data
from crossattn.train.run import Run, replace
from crossattn.train.source import Dataset
from crossattn.train.suite import Suite

from . import suites
from .command_line import fail, manual, plain_errors, typed
from .entry import start
from .exhibition import gallery_of
from .training import (
    EXPECTED,
    Flag,
    describe_devices,
    keep_programs,
    load_checked,
    parse_run,
    train_all,
)

COMMAND = "ablate"
QUICK_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Options:
    """Train and measure every variant of a suite with every seed, and write a report.

    What is finished never runs again: the same command goes on where one ended.
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    """What all variants share."""
    launch: Annotated[Launch, tyro.conf.arg(name="")]
    """Where the runs happen."""
    devices: Annotated[Devices, tyro.conf.arg(name="")]
    """How they lie over the devices."""
    logs: Annotated[LogOptions, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=LogOptions
    )
    """Who hears of their steps."""
    variants: Annotated[
        tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(default: all)")
    ] = ()
    """Run and report only these variants, and the baseline."""
    seeds: int = 5
    """Seeds of every variant: 0, 1, and so on. Fewer than 5 seldom allow a claim."""
    quick: Flag = False
    """A smoke run of a few minutes: 3 seeds, few steps, little data. Not for conclusions."""
    sweep: Flag = False
    """First choose each variant's learning rate on validation data, with a seed of its own."""
    out: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FOLDER",
            help_behavior_hint="(default: results/SUITE, with --quick results/SUITE-quick)",
        ),
    ] = None
    """Where the results go."""
    dry_run: Flag = False
    """Only show what would run, what it costs and how long it takes; write nothing."""

    def __post_init__(self):
        if self.seeds < 1:
            raise ValueError(f"--seeds must be at least 1, got {self.seeds}")


def main(arguments: list[str]) -> None:
    """Parse, run, report."""
    whole, options = configure(arguments)
    suite = whole.only(options.variants) if options.variants else whole
    name = f"{suite.name}-quick" if options.quick else suite.name
    folder = Folder(options.out or Path("results") / name)
    command = typed(COMMAND, arguments)
    progress = functools.partial(describe_progress, suite, folder, options.seeds, command)
    safe = lambda: f"{progress()}\n{describe_active(folder)}".strip()
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        options.launch.check()
        if options.launch.elsewhere and options.devices != Devices():
            fail(COMMAND, "options of devices, --mesh to --distributed, are not for --launcher")
        folder.check(whole)
        options.devices.prepare()
        parallel = options.devices.parallel(suite)
        if options.dry_run:
            _dry_run(whole, suite, folder, options)
            return

        def prepare() -> None:
            folder.check(whole)  # another process may have been here in between
            check_free(folder, options.launch)
            check_changed(folder, {one.variant for one in folder.stale(whole)})
            folder.check_room(sum(len(more) for _, more in pending(suite, folder, options.seeds)))

        with hold_folder(folder, command, prepare):
            keep_programs()
            source = load_checked(COMMAND, suite)
            whole, suite = fit_to_data(whole, source), fit_to_data(suite, source)
            if is_writer():
                _say_changes(whole, folder)
                folder.claim(whole)
            render = functools.partial(
                report, whole, suite, source, folder, options, parallel, command
            )
            device = work(suite, source, folder, options, parallel, render)
            if is_writer():
                path, results = render(device)
                print(terminal_report(results))
                print(f"\nreport: {printable(path)}")


def _say_changes(whole: Suite, folder: Folder) -> None:
    for line in folder.changes(whole):
        print(f"{COMMAND}: {line}", file=sys.stderr)


def _dry_run(whole: Suite, suite: Suite, folder: Folder, options: Options) -> None:
    if is_writer():
        _say_changes(whole, folder)
        dry_run.print_dry_run(suite, load_checked(COMMAND, suite), folder, options.seeds)
        print(describe_jobs(suite, folder, options.seeds, options.launch), end="")


def configure(arguments: list[str]) -> tuple[Suite, Options]:
    """The suite with the overrides of the command line, and the options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:14s} {title}" for name, title in suites.titles().items())
        said = f"{manual(__doc__)}\nSuites:\n{known}\n\n{typed(COMMAND)} SUITE --help: options"
        print(said)
        raise SystemExit(0)
    name, *rest = arguments
    suite = suites.named(COMMAND, name)
    quick = "--quick" in rest
    base = replace(suite.base, suite.quick) if quick else suite.base
    default = Options(base, Launch(), Devices(), seeds=QUICK_SEEDS if quick else Options.seeds)
    options, changes = parse_run(COMMAND, default, rest, subject=[name])
    for variant in options.variants:
        if variant not in suite.variants:
            fail(COMMAND, f"{name} has no variant {variant!r}: {nearest(variant, suite.variants)}")
    for field in changes:
        if any(_decides(variant, field) for variant in suite.variants.values()):
            option = field.replace("_", "-")
            fail(COMMAND, f"--{option} is what the suite {name} varies: leave it out")
    if options.sweep and "optimizer.learning_rate" in changes:
        fail(COMMAND, "--optimizer.learning-rate is what --sweep chooses: leave one of them out")
    try:
        return dataclasses.replace(suite, base=options.run, sweep=options.sweep), options
    except ValueError as error:
        fail(COMMAND, str(error))


def _decides(changes: Mapping[str, Any], field: str) -> bool:
    """Whether changes of a variant set a field, a part of it, or what it is a part of."""
    paths = [*changes, *["model.block"] * ("model.preset" in changes)]
    pairs = ((f"{one}.", f"{field}.") for one in paths)
    return any(a.startswith(b) or b.startswith(a) for a, b in pairs)


def work(
    suite: Suite,
    source: Dataset,
    folder: Folder,
    options: Options,
    parallel: Parallelism,
    render: Callable[[str], tuple[Path, dict[str, Any]]],
) -> str:
    """Run what is not finished, a variant per device or as jobs; returns what it ran on.

    The report is there from the first finished variant on, and written again after others, as
    long as that takes at most a tenth of the time.
    """
    todo = left_to_run(suite, folder, options.seeds)
    runs = sum(len(seeds) for _, seeds in todo)
    if is_writer() and (done := len(suite.variants) * options.seeds - runs):
        print(f"{done} runs are finished, {runs} to go", file=sys.stderr)
    if options.launch.elsewhere:
        jobs = (suite, folder, options.seeds, options.launch, COMMAND)
        return launch_suite(*jobs, options.logs.loggers)

    due = 0.0

    def renew(notify: Callable[[str], None]) -> None:
        nonlocal due
        if (began := time.monotonic()) < due:
            return
        path, results = render(describe_devices())
        due = began + 10 * (time.monotonic() - began)
        done, wanted = len(results["runs"]), len(suite.variants) * options.seeds
        notify(f"{done} of {wanted} runs are finished, report so far: {printable(path)}")

    given = (suite, todo, source, folder, parallel, options.devices)
    return train_all(COMMAND, *given, renew, options.logs.loggers)


def report(
    whole: Suite,
    suite: Suite,
    source: Dataset,
    folder: Folder,
    options: Options,
    parallel: Parallelism,
    command: str,
    device: str,
) -> tuple[Path, dict[str, Any]]:
    """Write results.json, and report.md with its figures, of the runs that are finished."""
    finished = collect(suite, folder, options.seeds)
    wanted = asked(whole, suite, seeds=options.seeds, quick=options.quick)
    seeds = describe_parallelism(parallel, finished.groupings)
    results = write_results(suite, folder, finished, device, seeds, wanted, source.describe())
    path = write_report(
        results,
        folder.path,
        title=suite.title,
        claims=suite.claims,
        curves=finished.curves,
        shown=gallery_of(source, folder, [suite.baseline, *suite.variants]),
        samples=source.samples,
        notes=(*suite.notes, *left_out(whole, suite)),
        command=command,
    )
    return path, results


if __name__ == "__main__":
    start(main)
