"""Logs as JSON lines."""

import errno
import json
import math
import os
import time
from pathlib import Path
from typing import Any, TextIO

from crossattn.files import contents, write_atomically
from crossattn.train.multihost import is_writer
from crossattn.train.open_loggers import NO_LOGGERS, OpenLoggers


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Lines of a log that can be read: the last may be cut short by a kill, others be damaged."""
    return _read(path)[0]


def curve(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that training wrote: step, metrics such as the loss, the time of day."""
    return [line for line in read_lines(path) if "loss" in line and "event" not in line]


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines that can be read, and how many others there are but for the last."""
    try:
        content = contents(path)
    except FileNotFoundError:
        return [], 0
    found = [_line(line) for line in content.splitlines()]
    return [line for line in found if line is not None], sum(line is None for line in found[:-1])


def _line(line: bytes) -> dict[str, Any] | None:
    """What stands in a line; None where no version of this program has written that."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    numbers = [value for name, value in record.items() if "event" not in record or name == "time"]
    return record if all(map(_finite, numbers)) else None


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


class Log:
    """One JSON object a line; `step` counts finished steps.

    On resuming at a step, what was logged beyond it is removed: each step stands there once. Of
    several processes one writes.

    Loggers are handed every record as well, but no step that stood there before: a run that goes on
    makes the same steps again.

    Attributes:
      damaged: how many lines could not be read, and are left out from now on.
    """

    def __init__(self, path: Path, *, resume_at: int = 0, loggers: OpenLoggers = NO_LOGGERS):
        self.path, self.damaged, self.loggers = path, 0, loggers
        self.file: TextIO | None = None
        if not is_writer():
            return
        lines, self.damaged = _read(path)
        self.logged = max((line["step"] for line in lines), default=0)
        kept = [line for line in lines if line["step"] <= resume_at]
        write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = path.open("a", buffering=1)

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def write(self, step: int, **values: Any) -> None:
        """Append a line with the time of day in seconds.

        Raises:
          FileNotFoundError: see `check`.
        """
        if self.file is None:
            return
        self.check()
        record = {"step": step, **values, "time": round(time.time(), 3)}
        self.file.write(json.dumps(record) + "\n")
        if "event" in values or step > self.logged:
            self.loggers.log(record)

    def check(self) -> None:
        """Make sure that the file is still where it was opened.

        What is written into a folder that was renamed or removed is lost without an error, and
        what is made anew at its old place would be half a folder.

        Raises:
          FileNotFoundError: it is not.
        """
        if self.file is None:
            return
        try:
            same = os.path.samestat(os.fstat(self.file.fileno()), self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            same = False
        if not same:
            reason = "moved, removed or replaced while this command ran"
            raise FileNotFoundError(errno.ENOENT, reason, str(self.path))
