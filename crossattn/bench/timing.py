"""Timing: all contestants compiled and warmed up, one call each in turn, raw times kept."""

from __future__ import annotations

import dataclasses
import gc
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from .cases import Case
from .ceilings import measured_ceilings


class UnavailableError(Exception):
    """A contestant cannot take part; the text is the reason."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """How long one case may take, compilation aside.

    Attributes:
      seconds: of timed calls; at least `fewest` rounds (or `most`, if that is less) are made.
      most: rounds at most.
      fewest: rounds that a median needs.
    """

    seconds: float = 6.0
    most: int = 50
    fewest: int = 5


@dataclasses.dataclass(frozen=True)
class Program:
    """One contestant, ready to run.

    Attributes:
      run: does the work and returns its result when that is complete.
      error: of a result, relative; None where there is nothing to compare with.
      units: calls or steps in one run; its time is divided by them.
      temporary_bytes: beyond inputs and outputs, as the compiler states them; None: it does not.
      chosen: the implementation behind it, if it has a choice.
      work: (floating-point operations, bytes) of a unit, where its share of what the machine can
        do is of interest.
    """

    run: Callable[[], Any]
    error: Callable[[Any], float | None]
    units: int = 1
    temporary_bytes: int | None = None
    chosen: str | None = None
    work: tuple[float, float] | None = None


def jax_program(
    function: Callable[..., Any],
    *arguments: Any,
    error: Callable[[Any], float | None],
    units: int = 1,
    calls: int = 1,
    work: tuple[float, float] | None = None,
) -> Program:
    """Compile `function` for these arguments; a run makes `calls` calls of `units` steps each.

    Raises:
      UnavailableError: it needs more memory than is free.
    """
    compiled = jax.jit(function).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()  # None where the platform has none
    temporary = getattr(memory, "temp_size_in_bytes", None)
    if temporary is not None and jax.default_backend() == "cpu":
        _check_memory(temporary + memory.output_size_in_bytes)

    def run():
        for _ in range(calls):
            result = jax.block_until_ready(compiled(*arguments))
        return result

    return Program(run, error, units * calls, temporary, work=work)


def _check_memory(needed: int) -> None:
    """The system would kill the whole process in the middle of a call."""
    status = Path("/proc/meminfo")
    if not status.exists():
        return
    found = re.search(r"MemAvailable:\s*(\d+) kB", status.read_text())
    if found and needed > 1024 * int(found[1]):
        raise UnavailableError(
            f"needs {needed / 2**30:.1f} GiB beside its inputs, "
            f"{int(found[1]) / 2**20:.1f} GiB are free"
        )


def contest(
    case: Case,
    build: Callable[[str], Program],
    budget: Budget,
    announce: Callable[[str], None],
    excluded: Mapping[str, str],
) -> dict[str, Any]:
    """Build and warm up all contestants, then time them in turns.

    Returns:
      {"rounds": n, "contestants": {name: {"seconds": [...], "temporary_bytes", "error"}}}, where
      seconds has one time of a unit for each round; who cannot take part has a "reason" instead.
    """
    programs: dict[str, Program] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in case.contestants:
        announce(name)
        try:
            if name in excluded:
                raise UnavailableError(excluded[name])
            programs[name] = program = build(name)
            error = program.error(program.run())
            if error is not None and not math.isfinite(error):
                raise UnavailableError("its result is not finite")
        except Exception as reason:
            programs.pop(name, None)
            found[name] = {"reason": reason_of(reason)}
            continue
        found[name] = {"seconds": [], "temporary_bytes": program.temporary_bytes, "error": error}
        found[name] |= {"chosen": program.chosen} if program.chosen else {}
        found[name] |= {"work": program.work} if program.work else {}
    announce("timing")
    result: dict[str, Any] = {"contestants": found}
    if any(program.work for program in programs.values()):
        result["ceilings"] = measured_ceilings(case.device, case.dtype)._asdict()
    rounds = interleave(programs, found, budget, random.Random(case.seed))
    return {"rounds": rounds, **result}


def interleave(
    programs: Mapping[str, Program],
    found: dict[str, dict[str, Any]],
    budget: Budget,
    order: random.Random,
) -> int:
    """Append one time a round to found[name]["seconds"]; returns the number of rounds."""
    for program in programs.values():
        program.run()
    gc.collect()
    gc.disable()
    start, done = time.perf_counter(), 0
    while programs and done < budget.most:
        if done >= budget.fewest and time.perf_counter() - start > budget.seconds:
            break
        # In a new order each round, so that none always finds the caches of the same other.
        for name in order.sample(list(programs), len(programs)):
            before = time.perf_counter()
            programs[name].run()
            elapsed = time.perf_counter() - before
            found[name]["seconds"].append(elapsed / programs[name].units)
        done += 1
    gc.enable()
    return done


def reason_of(error: Exception) -> str:
    """One line of why a contestant does not take part."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else ""
    if isinstance(error, UnavailableError):
        return text
    return f"{type(error).__name__}: {text}"[:200].rstrip(": ")
