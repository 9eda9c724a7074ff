"""Modules of this package as processes of their own, which take and give lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CAN_LIMIT = hasattr(os, "sched_setaffinity")
# Seconds in which a process that gets no more requests ends by itself.
END_TIMEOUT = 10


def available_cores() -> list[int]:
    """The processor cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if CAN_LIMIT else list(range(os.cpu_count() or 1))


class ModuleProcess:
    """A module as a process, which gets requests and answers with messages.

    Args:
      module: its full name.
      arguments: of its command line.
      environment: of the process; modules are found as here.
      title: what it is called when it dies.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        title: str = "the process",
    ) -> None:
        self.title, self._errors = title, tempfile.TemporaryFile("w+")  # noqa: SIM115 - see end
        path = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env={**environment, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )

    def send(self, **request: Any) -> None:
        """Write a request; if the process has died, `messages` ends at once."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")

    def messages(self) -> Iterator[dict[str, Any]]:
        """What it answers, as it comes, until it ends."""
        assert self._process.stdout
        yield from map(json.loads, self._process.stdout)

    def kill(self) -> None:
        """End it in the middle of what it does."""
        self._process.kill()

    def end(self) -> str:
        """Make sure that it has ended, and say in one line how."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        try:
            code = self._process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            code = self._process.wait()
        with self._errors:
            self._errors.seek(0)
            return ending(self.title, code, self._errors.read())


def ending(title: str, code: int, errors: str) -> str:
    """Why a process ended: the last line of its errors, the signal, or the exit code.

    Example:
      >>> ending("the compiler", 1, "Traceback ...\\nValueError: no"), ending("the job", -6, "")
      ('ValueError: no', 'the job was killed (SIGABRT)')
    """
    if code < 0:
        return f"{title} was killed ({signal.Signals(-code).name})"
    lines = errors.strip().splitlines()
    return lines[-1] if lines else f"{title} ended with code {code}"


def open_answers() -> Callable[..., None]:
    """In such a process: a function that sends a message; what libraries print goes to errors."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    return send
