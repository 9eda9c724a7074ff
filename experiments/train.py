"""Train one model outside any suite, resume it, measure it and report it.

python -m experiments.train --steps 500
python -m experiments.train --model.layers 4 --optimizer.name lion --optimizer.learning-rate 4e-4
python -m experiments.train --from results/fusion/runs/blind/seed0/run.json --out results/again
python -m experiments.train --mesh data=4,tensor=2 --out results/wide
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from crossattn.launch.devices import Devices, hold_folder
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.launch.options import LogOptions
from crossattn.train import record
from crossattn.train.multihost import broadcast, is_writer
from crossattn.train.primary import check_source, measurable
from crossattn.train.record import RecordError, read_record
from crossattn.train.run import Run
from crossattn.train.run_folder import NAME, VARIANT, RunFolder, suite_of
from crossattn.train.source import Dataset, load_dataset
from crossattn.train.suite import Suite

from .command_line import fail, manual, plain_errors, takes, typed, value_of
from .entry import start
from .exhibition import build_gallery
from .training import (
    EXPECTED,
    keep_programs,
    parse_run,
    report_model,
    train_all,
)

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
    suite = suite_of(options.run)
    where = options.out or Path("results") / NAME / f"seed{options.seed}"
    folder, command = RunFolder(where, options.seed), typed(COMMAND, arguments)
    safe = lambda: _standing(folder, options, command)
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        folder.check(suite)
        options.devices.prepare(COMMAND)
        parallel = options.devices.parallel(suite)

        def prepare() -> None:
            folder.check(suite)  # another process may have been here in between
            folder.check_room(1)

        with hold_folder(folder, command, prepare, name=COMMAND):
            keep_programs()
            suite, source = _load(suite)
            if is_writer():
                folder.claim(suite)
            done = broadcast([folder.finished(VARIANT, options.seed)])[0]
            todo = [] if done else [(VARIANT, [options.seed])]
            given = (suite, todo, source, folder, parallel, options.devices)
            train_all(COMMAND, *given, loggers=options.logs.loggers)
            if is_writer():
                _report(folder, suite, source)


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


def _load(suite: Suite) -> tuple[Suite, Dataset]:
    """The data, and the suite with a primary metric that they have."""
    try:
        source = load_dataset(suite.base)
        known = measurable(source.splits, source.main)
        wanted = [f"{source.main}/{metric}" for metric in ("accuracy", "perplexity")]
        primary = next((name for name in wanted if name in known), wanted[0])
        suite = dataclasses.replace(suite, primary=primary)
        check_source(suite, source)
    except ValueError as error:
        fail(COMMAND, str(error))
    return suite, source


def _standing(folder: RunFolder, options: Options, command: str) -> str:
    """What is safe after an interruption, and how to go on."""
    step = folder.checkpoint(VARIANT, options.seed)
    at = "there is no checkpoint yet" if step is None else f"it goes on from step {step}"
    return f"interrupted; {at} of {options.run.steps}\nto go on: {command}"


def _report(folder: RunFolder, suite: Suite, source: Dataset) -> None:
    maps = folder.path / "maps.npz"
    measured: Mapping[str, Any] = json.loads((folder.path / "metrics.json").read_text())
    about = {"suite": NAME, "step": suite.base.steps, "split": source.main}
    report_model(
        folder.path, {**measured, **about}, build_gallery(source, maps) if maps.exists() else None
    )


if __name__ == "__main__":
    start(main)
