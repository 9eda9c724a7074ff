"""The other end of `worker.py`: starts it on chosen cores, survives its death."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .cases import Case
from .timing import Budget

__all__ = ["CAN_LIMIT", "Worker", "WorkerError", "available_cores"]

ROOT = Path(__file__).resolve().parents[2]
CAN_LIMIT = hasattr(os, "sched_setaffinity")


class WorkerError(RuntimeError):
    """The measuring process cannot start; the text is one line."""


def available_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if CAN_LIMIT else list(range(os.cpu_count() or 1))


class Worker:
    """A process that measures on the first `threads` cores that are available.

    Attributes:
      about: what it says of itself when it has started: {device, versions, cores}, where cores is
        None on systems on which they cannot be limited.
    """

    def __init__(self, device: str, threads: int):
        self.device, self.cores = device, available_cores()[:threads]
        self.process: subprocess.Popen[str] | None = None
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed in __exit__
        self.about: dict[str, Any] = {}

    def __enter__(self) -> Worker:
        try:
            self._start()
        except BaseException as error:
            self.__exit__(type(error))
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None and self.process is not None:
            self.process.kill()  # nobody waits for what it is in the middle of
        self._end()
        self.errors.close()

    def measure(self, case: Case, budget: Budget, announce: Callable[[str], None]) -> dict:
        """What `contest` returns. Who kills the process is left out, and the others start anew."""
        excluded: dict[str, str] = {}
        while True:
            if self.process is None:
                self._start()
            request = {"case": dataclasses.asdict(case), "budget": dataclasses.asdict(budget)}
            self._send({**request, "excluded": excluded})
            last = "the inputs"
            for message in self._answers():
                if "result" in message:
                    return message["result"]
                last = message["about"]
                announce(last)
            reason = self._end()
            # Nobody in particular is to blame for a death over the inputs or between the calls.
            guilty = [last] if last in case.contestants else list(case.contestants)
            if set(guilty) <= excluded.keys():
                raise WorkerError(f"{case.shape}: {reason}")
            excluded |= dict.fromkeys(guilty, reason)
            if len(guilty) == len(case.contestants):
                alone = {name: {"reason": reason} for name in case.contestants}
                return {"rounds": 0, "contestants": alone}

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": _python_path()}
        if self.device == "cpu":
            environment["JAX_PLATFORMS"] = "cpu"
        else:
            environment.pop("JAX_PLATFORMS", None)
            # jax would take three quarters of the memory that torch needs as well.
            environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        with _only(self.cores):
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", self.device],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                bufsize=1,
            )
        hello = next(self._answers(), None)
        if hello is None:
            raise WorkerError(f"the measuring process did not start: {self._end()}")
        if "refused" in hello:
            raise WorkerError(hello["refused"])
        self.about = hello

    def _send(self, message: dict) -> None:
        assert self.process
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):  # it died: _answers ends at once
            self.process.stdin.write(json.dumps(message) + "\n")

    def _answers(self) -> Iterator[dict]:
        assert self.process
        assert self.process.stdout
        for line in self.process.stdout:
            yield json.loads(line)

    def _end(self) -> str:
        """Make sure that it has ended, and say in one line how."""
        if self.process is None:
            return ""
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe:
                    pipe.close()
        try:
            # Without requests it ends by itself, unless it is in the middle of one.
            code = self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.process = None
        if code < 0:
            return f"the process was killed ({signal.Signals(-code).name})"
        self.errors.seek(0)
        lines = self.errors.read().strip().splitlines()
        return lines[-1] if lines else f"the process ended with code {code}"


def _python_path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


@contextlib.contextmanager
def _only(cores: list[int]) -> Iterator[None]:
    """Processes that are started here may use these cores; their threads follow from it."""
    if not CAN_LIMIT:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
