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
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.files import printable
from crossattn.lab import suites
from crossattn.lab.asking import QUICK_SEEDS, SEEDS, check_unvaried, check_variants
from crossattn.lab.errors import EXPECTED
from crossattn.lab.loading import load_checked
from crossattn.lab.request import Request, prepare_request
from crossattn.lab.running import run_suite
from crossattn.launch.devices import Devices
from crossattn.launch.interrupts import describe_progress, graceful_interrupt
from crossattn.launch.launcher import describe_active, describe_jobs
from crossattn.launch.options import Launch, LogOptions
from crossattn.plan import dry_run
from crossattn.report.tables.main import terminal_report
from crossattn.train.folder import Folder
from crossattn.train.multihost import is_writer
from crossattn.train.run import Run, replace
from crossattn.train.suite import Suite

from .command_line import fail, manual, plain_errors, typed
from .entry import start
from .run_options import Flag, find_suite, parse_run

COMMAND = "ablate"


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
    """Run and report only these variants, and in any case the baseline."""
    seeds: int = SEEDS
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
    name = f"{whole.name}-quick" if options.quick else whole.name
    request = Request(
        caller=COMMAND,
        command=typed(COMMAND, arguments),
        whole=whole,
        suite=whole.only(options.variants) if options.variants else whole,
        folder=Folder(options.out or Path("results") / name),
        seeds=options.seeds,
        quick=options.quick,
        launch=options.launch,
        devices=options.devices,
        loggers=options.logs.loggers,
    )
    with (
        graceful_interrupt(COMMAND, functools.partial(_safe, request)),
        plain_errors(COMMAND, EXPECTED, safe=functools.partial(_safe, request)),
    ):
        if options.dry_run:
            _dry_run(request)
        elif done := run_suite(request):
            path, results = done
            print(terminal_report(results))
            print(f"\nreport: {printable(path.with_suffix('.html'))}")


def _safe(request: Request) -> str:
    """What is safe after an interruption, and how to go on."""
    folder = request.folder
    said = describe_progress(request.suite, folder, request.seeds, request.command)
    return f"{said}\n{describe_active(folder)}".strip()


def _dry_run(request: Request) -> None:
    prepare_request(request)
    if is_writer():
        suite, folder, seeds = request.suite, request.folder, request.seeds
        for line in folder.changes(request.whole, dry=True):
            request.say(line)
        dry_run.print_dry_run(suite, load_checked(suite), folder, seeds)
        print(describe_jobs(suite, folder, seeds, request.launch), end="")


def configure(arguments: list[str]) -> tuple[Suite, Options]:
    """The suite with the overrides of the command line, and the options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        known = "\n".join(f"  {name:14s} {title}" for name, title in suites.titles().items())
        said = f"{manual(__doc__)}\nSuites:\n{known}\n\n{typed(COMMAND)} SUITE --help: options"
        print(said)
        raise SystemExit(0)
    name, *rest = arguments
    suite = find_suite(COMMAND, name)
    quick = "--quick" in rest
    base = replace(suite.base, suite.quick) if quick else suite.base
    default = Options(base, Launch(), Devices(), seeds=QUICK_SEEDS if quick else SEEDS)
    options, changes = parse_run(COMMAND, default, rest, subject=[name])
    try:
        check_variants(suite, options.variants, name)
        check_unvaried(suite, changes, name, sweep=options.sweep)
        return dataclasses.replace(suite, base=options.run, sweep=options.sweep), options
    except ValueError as error:
        fail(COMMAND, str(error))


if __name__ == "__main__":
    start(main)
