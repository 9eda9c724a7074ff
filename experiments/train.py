"""Train one model outside any suite, resume it, measure it and report it.

python -m experiments.train --steps 500
python -m experiments.train --model.layers 4 --optimizer.name lion --optimizer.learning-rate 4e-4
python -m experiments.train --from results/fusion/runs/blind/seed0/run.json --out results/again
python -m experiments.train --mesh data=4,tensor=2 --out results/wide
"""

import dataclasses
import functools
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.lab.errors import EXPECTED
from crossattn.lab.request import Request
from crossattn.lab.running import run_alone
from crossattn.launch.devices import Devices
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.launch.options import LogOptions
from crossattn.train import record
from crossattn.train.record import RecordError, read_record
from crossattn.train.run import Run
from crossattn.train.run_folder import NAME, VARIANT, RunFolder, suite_of

from .command_line import fail, manual, plain_errors, takes, typed, value_of
from .entry import start
from .run_options import parse_run, print_tables

COMMAND = "train"


@dataclasses.dataclass(frozen=True)
class Options:
    """Train one model and measure it.

    The same command goes on where one ended; what is finished is only reported again.
    """

    run: Annotated[Run, tyro.conf.arg(name="")]
    """What is trained."""
    devices: Annotated[Devices, tyro.conf.arg(name="")]
    """How it lies over the devices."""
    logs: Annotated[LogOptions, tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=LogOptions
    )
    """Who hears of its steps."""
    seed: int = 0
    """Decides initial values and the order of the data."""
    source: Annotated[Path | None, tyro.conf.arg(name="from"), takes("RUN.JSON", "none")] = None
    """Repeat the run that this file, or the folder that it is in, describes: its settings and its
    seed are the defaults of all other options."""
    out: Annotated[Path | None, takes("FOLDER", "results/train/seedN")] = None
    """Where checkpoints, measurements and the report go."""

    def __post_init__(self):
        if self.seed < 0:
            raise ValueError(f"--seed cannot be negative, got {self.seed}")


def main(arguments: list[str]) -> None:
    """Parse, train, measure, report."""
    options = configure(arguments)
    suite, seed = suite_of(options.run), options.seed
    where = options.out or Path("results") / NAME / f"seed{seed}"
    folder, command = RunFolder(where, seed), typed(COMMAND, arguments)
    request = Request(
        COMMAND,
        command,
        suite,
        suite,
        folder,
        devices=options.devices,
        loggers=options.logs.loggers,
    )
    safe = functools.partial(_standing, folder, options, command)
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        if done := run_alone(request, seed):
            print_tables(where, done[1])


def configure(arguments: list[str]) -> Options:
    """The options, of which those of the run begin as `--from` says."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(manual(__doc__), flush=True)
    default = Options(Run(), Devices())
    if path := value_of(arguments, "--from"):
        try:
            of = read_record(_folder_of(Path(path)))
        except RecordError as error:
            fail(COMMAND, f"--from: {error}")
        default = Options(of.run, Devices(), seed=of.seed)
    return parse_run(COMMAND, default, arguments)[0]


def _folder_of(path: Path) -> Path:
    if path.is_dir():
        return path
    if path.name != record.FILE:
        fail(COMMAND, f"--from takes a {record.FILE} or its folder, got {path}")
    return path.parent


def _standing(folder: RunFolder, options: Options, command: str) -> str:
    """What is safe after an interruption, and how to go on."""
    step = folder.checkpoint(VARIANT, options.seed)
    at = "there is no checkpoint yet" if step is None else f"it goes on from step {step}"
    return f"interrupted; {at} of {options.run.steps}\nto go on: {command}"


if __name__ == "__main__":
    start(main)
