"""Starts the process that measures by the clock, keeps the time, and goes on after its death."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from crossattn import processes

from ..process import WorkerError, environment_of
from ..summary import summarise
from ..timing import Budget
from .cases import DeviceCase

# Seconds after the end in which the process may finish a call; less than LEAST is not begun.
GRACE, LEAST = 20.0, 5.0


@dataclasses.dataclass
class _State:
    """What is known of a run, over all its processes."""

    cases: Sequence[DeviceCase]
    done: set[int] = dataclasses.field(default_factory=set)
    timed: set[int] = dataclasses.field(default_factory=set)
    excluded: dict[tuple[int, str], str] = dataclasses.field(default_factory=dict)
    suspects: set[tuple[int, str]] = dataclasses.field(default_factory=set)


def run_sweep(
    cases: Sequence[DeviceCase],
    *,
    device: str,
    seconds: float,
    budget: Budget,
    about: dict[str, Any],
    announce: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """A record for each case, as it is measured.

    Args:
      cases: the most important first.
      device: "cpu", "gpu" or "tpu".
      seconds: for everything, the start of the process included.
      budget: of the timed calls of one case.
      about: is given what the process says of itself, the ceilings, and what is missing.
      announce: is told what is being done.

    Raises:
      WorkerError: the process does not start, or there is no such device.
    """
    end = time.monotonic() + seconds
    state = _State(cases)
    while len(state.done) < len(cases) and (not state.done or end - time.monotonic() > LEAST):
        before = len(state.excluded), len(state.done)
        process = processes.ModuleProcess(
            f"{__package__}.worker", device, environment=environment_of(device)
        )
        alarm = threading.Timer(max(0.0, end - time.monotonic()) + GRACE, process.kill)
        alarm.daemon = True
        alarm.start()
        ended = False
        try:
            _introduced(process, about)
            process.send(**_request(state, end, budget))
            for message in process.messages():
                ended = ended or "done" in message
                if (record := _heard(message, state, about, announce)) is not None:
                    yield record
        except BaseException:
            process.kill()
            raise
        finally:
            alarm.cancel()
            reason = process.end()
        if ended or time.monotonic() > end:
            break
        state.excluded |= dict.fromkeys(state.suspects, reason)
        if (len(state.excluded), len(state.done)) == before:
            raise WorkerError(reason)
        state.suspects.clear()
    about["missing"] = [case.label for i, case in enumerate(cases) if i not in state.timed]


def _introduced(process: processes.ModuleProcess, about: dict[str, Any]) -> None:
    said = next(process.messages(), {})
    if not said:
        raise WorkerError("the measuring process did not start")
    if "refused" in said:
        raise WorkerError(said["refused"])
    about["workers"] = [{"threads": len(said["cores"] or [0]), **said}]


def _request(state: _State, end: float, budget: Budget) -> dict[str, Any]:
    """What is still to be measured; numbers of cases are those of all."""
    return {
        "cases": [dataclasses.asdict(case) for case in state.cases],
        "done": sorted(state.done),
        "excluded": [[*key, reason] for key, reason in state.excluded.items()],
        "seconds": end - time.monotonic(),
        "budget": dataclasses.asdict(budget),
    }


def _heard(
    message: dict[str, Any], state: _State, about: dict[str, Any], announce: Callable[[str], None]
) -> dict[str, Any] | None:
    """Note one message; the record that it holds, if it does."""
    if "compiling" in message:
        index, name = message["compiling"]
        state.suspects.add((index, name))
        announce(f"compiling {state.cases[index].label}: {name}")
    elif "compiled" in message:
        state.suspects.discard(tuple(message["compiled"]))  # type: ignore[arg-type]
    elif "about" in message:
        index, name = message["about"]
        state.suspects = {(index, name)}
        announce(f"{state.cases[index].label}: {name}")
    elif "ceilings" in message:
        about["ceilings"] = message["ceilings"]
    elif "record" in message:
        index, result = message["record"]
        state.done.add(index)
        state.timed |= {index} if result["rounds"] else set()
        state.suspects.clear()
        return summarise(state.cases[index], {**result, "ceilings": about["ceilings"]})
    return None
