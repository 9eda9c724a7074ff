"""What all commands share: parsing into dataclasses, and errors as one clear line (exit code 2)."""

import contextlib
import dataclasses
import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import tyro

from crossattn.files import printable, printable_lines
from crossattn.interop.table import ImportMismatchError
from crossattn.train.former import FORMER_PARTS
from crossattn.train.quiet import NOISY

from .help_text import drawable, error_line, help_page, one_column, titled

Options = TypeVar("Options")

# Exit codes.
BAD_INPUT, INTERRUPTED = 2, 130
SAFE = "interrupted; finished runs and checkpoints are safe, the same command goes on"
# A wheel carries this package under a name that cannot clash, and a command beside it.
INSTALLED = __package__ != "experiments"
# No size is larger; products of larger ones end the process in XLA.
LARGEST = 10**9
BAD_NAME = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ELOOP)


def typed(command: str, arguments: Sequence[str] = ()) -> str:
    """What a user types to run a command.

    Example:
      >>> typed("ablate", ["fusion", "--out", "my results"])
      "python -m experiments.ablate fusion --out 'my results'"
      >>> print(typed("plan", ["caf\\udce9"]))  # a byte that is no letter in UTF-8
      python -m experiments.plan $'caf\\xe9'
    """
    start = f"crossattn {command}" if INSTALLED else f"python -m experiments.{command}"
    return " ".join([start, *map(_quoted, arguments)])


def _quoted(word: str) -> str:
    """As a shell takes it, in one line that can be encoded."""
    if word.isprintable():
        return shlex.quote(word)
    plain = lambda byte: 32 <= byte < 127 and byte not in b"\\'"
    letters = [chr(b) if plain(b) else f"\\x{b:02x}" for b in os.fsencode(word)]
    return f"$'{''.join(letters)}'"


def manual(documentation: str | None) -> str:
    """A module's documentation with its commands as this user types them."""
    text = documentation or ""
    return text.replace("python -m experiments.", "crossattn ") if INSTALLED else text


def takes(metavar: str, default: str = "") -> Any:
    """How --help shows an option: what it takes, and in words what holds without it."""
    hint = f"(default: {default})" if default else ""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


def fail(command: str, message: str) -> NoReturn:
    """Say in one line what was wrong, and end with exit code 2; names in it are escaped."""
    print(f"{command}: {printable(' '.join(message.split()))}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def present_options(command: str, arguments: Sequence[str]) -> list[str]:
    """Options by their present names: those of the release before are warned of."""
    found = []
    for argument in arguments:
        first, dot, rest = argument.removeprefix("--").partition(".")
        if dot and argument.startswith("--") and first in FORMER_PARTS:
            now = f"--{FORMER_PARTS[first]}.{rest}"
            former, named = argument.partition("=")[0], now.partition("=")[0]
            print(f"{command}: DeprecationWarning: {former} is now {named}", file=sys.stderr)
            argument = now
        found.append(argument)
    return found


def value_of(arguments: Sequence[str], option: str) -> str | None:
    """What a command line says of an option, before it is parsed; None where it says nothing.

    Example:
      >>> value_of(["--steps", "3", "--model.preset=t5"], "--model.preset")
      't5'
      >>> value_of([], "--model.preset") is None
      True
    """
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if name == option and (equals or (following and not following.startswith("-"))):
            return value if equals else following
    return None


def parse(
    command: str, default: Options, arguments: Sequence[str], *, subject: Sequence[str] = ()
) -> Options:
    """Fill a dataclass from the command line; its values in `default` are the defaults.

    What cannot be parsed ends the command with one line that names the option and what it takes.
    `subject` stands between the command and its options. Groups of options within groups are shown
    by `--help GROUP` alone.
    """
    group = value_of(arguments, "--help")
    arguments = arguments if group is None else ["--help"]
    said = io.StringIO()
    # By this encoding tyro decides how it draws boxes, which `error_line` has to know.
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(shown),
            one_column(),
        ):
            options = tyro.cli(
                type(default),
                args=list(arguments),
                default=default,
                prog=typed(command, subject),
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands),
            )
    except SystemExit as end:
        if end.code in (0, None):
            shown.seek(0)
            print(drawable(titled(help_page(shown.read(), group))), end="")
            raise
        fail(command, error_line(said.getvalue()))
    except ValueError as error:
        fail(command, str(error))
    for name, value in _numbers(options):
        if not -LARGEST <= value <= LARGEST and not name.endswith("seed"):
            fail(command, f"--{name} takes no number beyond {LARGEST}, got {value}")
    return options


def _numbers(options: Any, prefix: str = "") -> Iterator[tuple[str, int]]:
    """Integers among the options, with their names on the command line."""
    for field in dataclasses.fields(options):
        value, name = getattr(options, field.name), f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            # Of these the fields stand by themselves.
            inside = "" if field.name in ("run", "launch", "devices") else f"{name}."
            yield from _numbers(value, inside)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int):
                yield name, one


def check_page(command: str, option: str, page: Path, *read: Path) -> None:
    """End the command where a page would be a folder, or in the place of a file that is read."""
    if page.is_dir():
        fail(command, f"{option} {page} is a folder: name a file in it, like page.html")
    if page.exists() and any(one.exists() and page.samefile(one) for one in read):
        fail(command, f"{option} {page} is the file that is read: name another, like page.html")


@contextlib.contextmanager
def plain_errors(
    command: str,
    expected: tuple[type[BaseException], ...],
    *,
    safe: Callable[[], str] = lambda: SAFE,
) -> Iterator[None]:
    """Turn expected errors, and a disk that is full or closed to us, into one line.

    Tensors that do not fit a model are a table.

    Args:
      command: begins the line.
      expected: errors whose message is for the user.
      safe: says after an interruption what is safe, and how to go on.
    """
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except KeyboardInterrupt:
        print(f"\n{command}: {printable_lines(safe())}", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except ImportMismatchError as error:  # a table
        print(f"{command}: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except expected as error:
        fail(command, str(error))
    except Exception as error:
        for what in (_bad_name, _no_memory):
            if (said := what(error)) is not None:
                fail(command, said)
        said = system_message(error)
        if said is None:
            raise
        fail(command, f"{said}; what is finished is safe, the same command goes on")


def _bad_name(error: Exception) -> str | None:
    """What is wrong with a name that no file can have; None of other errors."""
    if isinstance(error, OSError) and error.errno in BAD_NAME:
        return f"{error.filename}: {error.strerror}: give another name"
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        return "no name of a file holds the character \\0"
    return None


def _no_memory(error: Exception) -> str | None:
    """How much memory there is not; None of other errors."""
    asked = re.search(r"[Oo]ut of memory[^.]*?(\d+) bytes", str(error))
    if asked:
        return f"not enough memory for {int(asked[1]):,} bytes: take a smaller model or batch"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}): take fewer images, a smaller model or batch"
    return None


def system_message(error: BaseException | None) -> str | None:
    """What the operating system said, if it is behind an error; else None.

    Orbax and TensorStore wrap it in errors of their own.
    """
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return f"{error.filename or 'the results'}: {error.strerror}"
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            return f"cannot write the results: {os.strerror(int(code[1]))}"
        error = error.__cause__ or error.__context__
    return None
