"""Starts the measuring process of `worker.py` on chosen cores, and survives its death."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

from crossattn.processes import CAN_LIMIT, ModuleProcess, available_cores

from .cases import Case
from .timing import Budget


class WorkerError(RuntimeError):
    """The measuring process cannot start; the text is one line."""


class Worker:
    """A process that measures on the first `threads` cores that are available.

    Attributes:
      about: what it says of itself when it has started: {device, versions, cores}, where cores is
        None on systems on which they cannot be limited.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.device, self.cores = device, available_cores()[:threads]
        self.process: Any = None
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
            self.process.kill()  # it may be in the middle of a long call
        self._end()

    def measure(
        self, case: Case, budget: Budget, announce: Callable[[str], None]
    ) -> dict[str, Any]:
        """What `contest` returns. Contestants that kill the process are left out."""
        excluded: dict[str, str] = {}
        request = {"case": dataclasses.asdict(case), "budget": dataclasses.asdict(budget)}
        while True:
            if self.process is None:
                self._start()
            self.process.send(**request, excluded=excluded)
            last = "the inputs"
            for message in self.process.messages():
                if "result" in message:
                    return message["result"]
                last = message["about"]
                announce(last)
            reason = self._end()
            # A death while inputs are made or between calls is not one contestant's.
            failed = [last] if last in case.contestants else list(case.contestants)
            if set(failed) <= excluded.keys():
                raise WorkerError(f"{case.shape}: {reason}")
            excluded |= dict.fromkeys(failed, reason)
            if len(failed) == len(case.contestants):
                alone = {name: {"reason": reason} for name in case.contestants}
                return {"rounds": 0, "contestants": alone}

    def _start(self) -> None:
        with _only(self.cores):
            self.process = ModuleProcess(
                f"{__package__}.worker", self.device, environment=environment_of(self.device)
            )
        self.about = next(self.process.messages(), {})
        if not self.about:
            raise WorkerError(f"the measuring process did not start: {self._end()}")
        if "refused" in self.about:
            raise WorkerError(self.about["refused"])

    def _end(self) -> str:
        process, self.process = self.process, None
        return "" if process is None else process.end()


def environment_of(device: str) -> dict[str, str]:
    """Of a process that measures on a kind of device."""
    environment = dict(os.environ)
    if device == "cpu":
        return environment | {"JAX_PLATFORMS": "cpu"}
    environment.pop("JAX_PLATFORMS", None)
    # jax would take three quarters of the memory that torch needs as well.
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | environment


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
