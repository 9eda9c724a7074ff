"""What ablate and train share: runs from the command line, their data, their training."""

import dataclasses
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import jax
import tyro
from tqdm import tqdm

from crossattn.data.tfds.records import DataError
from crossattn.fields import changes_between, spelled_out
from crossattn.files import printable
from crossattn.launch.devices import Devices, train_each
from crossattn.launch.options import LaunchError
from crossattn.launch.progress import Bar
from crossattn.report import evaluation
from crossattn.report.figures.gallery import Gallery
from crossattn.report.render.terminal import terminal_table
from crossattn.train import ablation
from crossattn.train.ablation import Listener
from crossattn.train.checkpoint import CheckpointError
from crossattn.train.folder import Folder, FolderError
from crossattn.train.freezing import FrozenError
from crossattn.train.loop import NonFiniteLossError
from crossattn.train.multihost import is_writer
from crossattn.train.open_loggers import Logger
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.primary import check_source
from crossattn.train.record import RecordError
from crossattn.train.run import Run, replace
from crossattn.train.source import Dataset, load_dataset
from crossattn.train.suite import Suite
from crossattn.train.tracing import ProfileError, Tracer

from .command_line import fail, parse, present_options, value_of

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]
CACHE = Path.home() / ".cache" / "crossattn" / "compiled"
# What a user can do something about.
EXPECTED = (
    FolderError,
    CheckpointError,
    DataError,
    FrozenError,
    LaunchError,
    NonFiniteLossError,
    ParallelismError,
    ProfileError,
    RecordError,
    ModuleNotFoundError,
)


class _HasRun(Protocol):
    @property
    def run(self) -> Run: ...


Options = TypeVar("Options", bound=_HasRun)


def parse_run(
    command: str, default: Options, arguments: Sequence[str], *, subject: Sequence[str] = ()
) -> tuple[Options, dict[str, Any]]:
    """Options of which the field `run` is changed by the command line, and its changes by path.

    The preset and the source of data are read before the others, which follow from them.
    """
    arguments = present_options(command, arguments)
    names = ("model.preset", "data.source")
    typed = {name: value_of(arguments, f"--{name}") for name in names}
    first = {name: value for name, value in typed.items() if value is not None}
    try:
        _refuse_foreign(default.run, arguments)
        base = replace(default.run, first)
        shown = spelled_out(base)
        parsed = parse(command, _with_run(default, shown), arguments, subject=subject)
        changes = changes_between(shown, parsed.run)
        run = replace(base, changes)
    except ValueError as error:
        fail(command, str(error))
    return _with_run(parsed, run), first | changes


def _refuse_foreign(run: Run, arguments: Sequence[str]) -> None:
    """Raise a ValueError for an option of the data of another source."""
    options = (re.match(r"--data\.([\w-]+)", argument) for argument in arguments)
    names = [option[1] for option in options if option]
    run.data.kind_for({n.replace("-", "_"): value_of(arguments, f"--data.{n}") for n in names})


def _with_run(options: Options, run: Run) -> Options:
    return dataclasses.replace(options, run=run)  # type: ignore[type-var]


def keep_programs() -> None:
    """Compiled programs are found again by the next command."""
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def load_checked(command: str, suite: Suite) -> Dataset:
    """The data of a suite, by which it can be judged; else the command ends with one line."""
    try:
        source = load_dataset(suite.base)
        check_source(suite, source)
    except ValueError as error:
        fail(command, str(error))
    return source


def train_all(
    command: str,
    suite: Suite,
    todo: list[tuple[str, list[int]]],
    source: Dataset,
    folder: Folder,
    parallel: Parallelism,
    devices: Devices,
    finished: Callable[[Callable[[str], None]], None] = lambda notify: None,
    loggers: Sequence[Logger] = (),
) -> str:
    """Train and measure variants with their seeds, under a bar; returns what it ran on.

    `finished` is called after each variant but the last, one call at a time, by the lane that ran
    it while the others go on; what it raises is told and ends nothing.
    """
    total = sum(suite.steps(variant, len(seeds)) for variant, seeds in todo)
    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar_options = {"total": total, "unit": "step", "desc": "compiling", "mininterval": interval}
    with tqdm(**bar_options, disable=not is_writer()) as bar:

        def notify(message: str) -> None:
            if is_writer():
                bar.write(f"{command}: {message}", file=sys.stderr)

        turn, left = threading.Lock(), {variant for variant, _ in todo}
        tracer = Tracer(devices.window(suite), notify)

        def train(variant: str, seeds: list[int], check: Callable[[], None]) -> None:
            listener = Listener(Bar(bar, check), notify, tracer, loggers)
            ablation.run_variant(
                suite,
                variant,
                seeds,
                source,
                folder,
                listener=listener,
                parallel=parallel,
                grouping=devices.grouping,
            )
            with turn:
                left.discard(variant)
                if left and is_writer():
                    check()
                    try:
                        finished(notify)
                    except Exception as error:
                        notify(f"no report yet: {type(error).__name__}: {error}")

        with tracer:
            train_each(train, todo, parallel)
    return describe_devices()


def describe_devices() -> str:
    """How many devices there are, and of which kind."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def report_model(out: Path, content: Mapping[str, Any], shown: Gallery | None) -> None:
    """Write the report of one model into a folder, and print its tables."""
    for table in evaluation.write_evaluation(out, content, shown):
        print(f"{table.caption}\n\n{terminal_table(table.table)}\n")
    print(f"report: {printable(out / 'report.md')}")
