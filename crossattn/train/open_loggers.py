"""The loggers of a run: who takes its records besides `log.jsonl`.

A `Logger` is asked for a `RunLogger` by every run, since several are trained at the same time. What
one of them raises is said in a line and ends no run. Those of known services are in `loggers`; one
of your own:

    class Losses:
        def start(self, description):
            self.name = description["name"]
            return self

        def log(self, record):
            print(self.name, record["step"], record.get("loss"))

        def finish(self):
            pass
"""

import dataclasses
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from crossattn.files import contents, write_atomically
from crossattn.train.multihost import is_writer
from crossattn.train.record import RunRecord

__all__ = ["NO_LOGGERS", "Logger", "OpenLoggers", "RunLogger", "open_loggers"]

# Holds what a run is called elsewhere, so that it is the same one when it goes on.
IDENTITY = "logged_as"


@runtime_checkable
class RunLogger(Protocol):
    """What becomes of the records of one run."""

    def log(self, record: Mapping[str, Any]) -> None:
        """Take a record: `step` (finished steps), `time`, and what is known of the step.

        Those of training have numbers, such as `loss`; those with an `event` say what happened.
        The last one, with the event "measured", has the metrics of the finished run. No step comes
        twice, also where the run was killed and goes on.
        """

    def finish(self) -> None:
        """The run has ended, or was interrupted."""


@runtime_checkable
class Logger(Protocol):
    """Makes a `RunLogger` for each run."""

    def start(self, description: Mapping[str, Any]) -> RunLogger:
        """Begin a run, or go on with it.

        Args:
          description: `name`, `id` (the same when the run goes on, of no other run), `suite`,
            `variant`, `seed`, `folder` (of the run), `run` (all settings, nested) and `versions`.
        """


class OpenLoggers:
    """The loggers of one run. One that raises is told of once, and left out from then on.

    >>> with OpenLoggers([], {"name": "fusion/blind/seed0"}) as loggers:
    ...     loggers.log({"step": 10, "loss": 0.5})
    """

    def __init__(
        self,
        loggers: Sequence[Logger],
        description: Mapping[str, Any],
        notify: Callable[[str], None] = lambda message: None,
    ):
        """Start all of them; `notify` is told what fails."""
        self.name, self.notify = description["name"], notify
        self.running: list[RunLogger] = []
        for logger in loggers:
            try:
                self.running.append(logger.start(description))
            except Exception as error:
                self._tell(logger, error)

    def __enter__(self) -> "OpenLoggers":
        return self

    def __exit__(self, *error: Any) -> None:
        self._each(lambda one: one.finish())
        self.running = []

    def log(self, record: Mapping[str, Any]) -> None:
        """Hand a record to each."""
        self._each(lambda one: one.log(record))

    def _each(self, call: Callable[[RunLogger], None]) -> None:
        for one in list(self.running):
            try:
                call(one)
            except Exception as error:
                self.running.remove(one)
                self._tell(one, error)

    def _tell(self, failed: Any, error: Exception) -> None:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        self.notify(f"{self.name}: {type(failed).__name__}: {said}; training goes on without it")


NO_LOGGERS = OpenLoggers([], {"name": ""})


def open_loggers(
    loggers: Sequence[Logger],
    record: RunRecord,
    folder: Path,
    notify: Callable[[str], None] = lambda message: None,
) -> OpenLoggers:
    """The loggers of the run in a folder, started."""
    if not (loggers and is_writer()):
        return NO_LOGGERS
    description = {
        **dataclasses.asdict(record),
        "name": f"{record.suite}/{record.variant}/seed{record.seed}",
        "id": _identity(folder),
        "folder": str(folder),
    }
    return OpenLoggers(loggers, description, notify)


def _identity(folder: Path) -> str:
    """What the run of a folder is called elsewhere: letters and digits, made once and kept."""
    path = folder / IDENTITY
    try:
        return contents(path).decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        made = secrets.token_hex(6)
        write_atomically(path, f"{made}\n")
        return made
