"""What is said of what cannot be done, as a command and as a call say it."""

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import NoReturn

from crossattn.align.measures import UnknownMeasureError
from crossattn.data.errors import DataError
from crossattn.launch.options import LaunchError
from crossattn.train.checkpoint import CheckpointError
from crossattn.train.folder import FolderError
from crossattn.train.freezing import FrozenError
from crossattn.train.initial import InitialError
from crossattn.train.loop import NonFiniteLossError
from crossattn.train.parallel import ParallelismError
from crossattn.train.quiet import quiet_logs
from crossattn.train.record import RecordError
from crossattn.train.tracing import ProfileError
from crossattn.train.trained import UnusableRunError


class LabError(ValueError):
    """What was asked for cannot be done; one line that says what to ask for instead."""


# What a user can do something about.
EXPECTED: tuple[type[Exception], ...] = (
    LabError,
    FolderError,
    CheckpointError,
    DataError,
    FrozenError,
    InitialError,
    LaunchError,
    NonFiniteLossError,
    ParallelismError,
    ProfileError,
    RecordError,
    UnknownMeasureError,
    UnusableRunError,
    ModuleNotFoundError,
)


@contextlib.contextmanager
def as_lab_error() -> Iterator[None]:
    """A ValueError about what a user asked for is one of the laboratory's."""
    try:
        yield
    except EXPECTED:
        raise
    except ValueError as error:
        raise LabError(str(error)) from None


@contextlib.contextmanager
def python_errors(safe: Callable[[], str]) -> Iterator[None]:
    """Errors as a call says them: options by the names of arguments, and no long way to them.

    Args:
      safe: says after an interruption what is safe, and how to go on; KeyboardInterrupt carries it.
    """
    try:
        with quiet_logs():
            yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(safe()) from None
    except EXPECTED as error:
        _raise_again(error)


def _raise_again(error: Exception) -> NoReturn:
    """The same error in the words of Python."""
    said = in_python(str(error))
    raise error if said == str(error) else type(error)(said) from None


def in_python(message: str) -> str:
    """A message that names options, with arguments instead.

    Example:
      >>> in_python("choose another folder with --out; --dry-run, --optimizer.learning-rate")
      'choose another folder with out=; dry_run=, optimizer.learning_rate'
    """

    def argument(option: re.Match[str]) -> str:
        name = option[1].replace("-", "_")
        return name if "." in name else f"{name}="

    said = re.sub(r"(?<![\w-])--([a-z][\w-]*(?:\.[a-z][\w-]*)*)", argument, message)
    return said.replace("type the same options again", "give the same arguments again").replace(
        "the same command", "the same call"
    )
