"""What commands share whose options are those of a run, and their last words."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import tyro

from crossattn.fields import changes_between, spelled_out
from crossattn.files import printable
from crossattn.lab import suites
from crossattn.report.render.blocks import TableBlock
from crossattn.report.render.terminal import terminal_table
from crossattn.train.run import Run, replace
from crossattn.train.suite import Suite

from .command_line import fail, parse, present_options, value_of

Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint="")]


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


def find_suite(command: str, name: str) -> Suite:
    """A suite by its name or path; the command ends with one line where there is none."""
    try:
        return suites.find(name)
    except ValueError as error:
        fail(command, str(error))


def print_tables(out: Path, tables: Sequence[TableBlock]) -> None:
    """The tables of one model's report, and where it is."""
    for table in tables:
        print(f"{table.caption}\n\n{terminal_table(table.table)}\n")
    print(f"report: {printable(out / 'report.html')}")
