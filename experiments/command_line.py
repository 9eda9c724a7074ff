"""What all commands share: parsing into dataclasses, and errors as one clear line (exit code 2)."""

import contextlib
import io
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn, TypeVar

import tyro

Options = TypeVar("Options")

BAD_INPUT = 2
INTERRUPTED = 130


def fail(command: str, message: str) -> NoReturn:
    """Say in one line what was wrong, and end with exit code 2."""
    print(f"{command}: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def parse(command: str, default: Options, arguments: Sequence[str]) -> Options:
    """Fill a dataclass from the command line; its values in `default` are the defaults.

    What cannot be parsed ends the command with one line that names the option and what it takes.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                type(default),
                args=list(arguments),
                default=default,
                prog=f"python -m experiments.{command}",
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        fail(command, _one_line(said.getvalue()))
    except ValueError as error:
        fail(command, str(error))


def _one_line(box: str) -> str:
    """The message inside the box that tyro draws: what is wrong, and what the option takes.

    Example:
      >>> _one_line("top\\n│ Unrecognized options: --stesp │\\n│ --steps INT │")
      'Unrecognized options: --stesp; did you mean --steps INT? (see --help)'
    """
    lines = [re.sub(r"[\u2500-\u257f]", " ", line).strip() for line in box.splitlines()[1:]]
    said: list[str] = []
    takes = ""
    for line in filter(None, lines):
        if line.startswith("--") and said and not takes:
            takes = line
        if not takes and not line.startswith(("For full", "Argument help", "Perhaps", "Default")):
            said.append(line)
    message = re.sub(r"^Error parsing (Options|run[.\w]*): ", "", " ".join(said))
    message = message.removeprefix("Error parsing ").rstrip(".")
    if takes and "Unrecognized" in message:
        message += f"; did you mean {takes}?"
    elif takes:
        message += f"; it takes {takes}"
    return f"{message} (see --help)"


@contextlib.contextmanager
def plain_errors(command: str, expected: tuple[type[BaseException], ...]) -> Iterator[None]:
    """Turn expected errors, and a disk that is full or closed to us, into one line."""
    # Orbax logs with a traceback what it then raises, and so do the futures that it leaves behind.
    for name in ("absl", "asyncio", "concurrent.futures"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"\n{command}: interrupted; finished runs and checkpoints are safe, "
            "the same command goes on",
            file=sys.stderr,
        )
        raise SystemExit(INTERRUPTED) from None
    except expected as error:
        fail(command, str(error))
    except Exception as error:
        said = system_message(error)
        if said is None:
            raise
        fail(command, f"{said}; what is finished is safe, the same command goes on")


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
