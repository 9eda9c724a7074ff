"""One case, whose programs are compiled: inputs, errors, and times in turns."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..timing import Budget, Program, UnavailableError, interleave, reason_of
from .cases import DeviceCase
from .compiling import AROUND, Around, Compiled, calls_in_a_run, work_of
from .torch_backends import BACKENDS, torch_programs

# Results that are further from the definition are wrong: bfloat16 has 8 bits.
LARGEST_ERROR = 0.05


def measure_case(
    case: DeviceCase, made: Mapping[str, Any], budget: Budget, announce: Callable[[str], None]
) -> dict[str, Any]:
    """What `contest` returns; `seconds` are of calls inside of one program, `call_seconds` plain.

    Args:
      case: what is measured.
      made: for `AROUND` and each contestant, its programs, or the reason why there are none.
      budget: of the timed calls.
      announce: is told whose turn it is.
    """
    around = made.get(AROUND)
    if not isinstance(around, Around):
        reason = around or "not compiled in time"
        return {"rounds": 0, "contestants": {n: {"reason": reason} for n in case.contestants}}
    announce(AROUND)
    arrays = jax.block_until_ready(around.make())
    truth = around.truth(*arrays, *map(jnp.asarray, around.leaves))
    programs: dict[str, Program] = {}
    found: dict[str, dict[str, Any]] = {}
    for name in case.contestants:
        announce(name)
        try:
            forms, found[name] = _ready(case, name, made.get(name), arrays, around.error, truth)
        except Exception as reason:
            found[name] = {"reason": reason_of(reason)}
            continue
        programs |= {f"{form} {name}": program for form, program in forms.items()}
    announce("timing")
    times: dict[str, dict[str, Any]] = {key: {"seconds": []} for key in programs}
    rounds = interleave(programs, times, budget, random.Random(case.seed))
    for name, contestant in found.items():
        if "reason" not in contestant:
            contestant["seconds"] = times[f"loop {name}"]["seconds"]
            contestant["call_seconds"] = times[f"call {name}"]["seconds"]
    del arrays, truth, programs
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and case.device == "gpu":
        torch.cuda.empty_cache()  # type: ignore[attr-defined]
    return {"rounds": rounds, "contestants": found}


def _ready(
    case: DeviceCase, name: str, made: Any, arrays: Sequence[Any], error: Any, truth: Any
) -> tuple[dict[str, Program], dict[str, Any]]:
    """Programs "call" and "loop", and what is known of a contestant before it is timed."""
    about: dict[str, Any] = {"temporary_bytes": None, "error": None, "work": work_of(case)}
    if name in BACKENDS and made is None:
        results, forms = torch_programs(case, name, arrays, calls_in_a_run(case))
    elif isinstance(made, Compiled):
        results, forms = _jax_programs(made, arrays)
        about["temporary_bytes"] = made.temporary_bytes
        about |= {"chosen": made.chosen} if made.chosen else {}
        if made.contestant.keys is not None:
            return forms, about  # another problem than that of the truth
    else:
        raise UnavailableError(made or "not compiled in time")
    about["error"] = worst = float(error(results, truth))
    if not worst <= LARGEST_ERROR:
        raise UnavailableError(f"its result is wrong: the error is {worst:.2g}")
    return forms, about


def _jax_programs(
    made: Compiled, arrays: Sequence[Any]
) -> tuple[Sequence[Any], dict[str, Program]]:
    q, k, v, *cotangent = arrays
    keys = made.contestant.keys
    cut = (k, v) if keys is None else (k[:, :keys], v[:, :keys])
    given = [q, *cut, *cotangent, *map(jnp.asarray, made.contestant.leaves)]

    def calls() -> Any:
        for _ in range(made.calls):
            results = made.call(*given)
        return jax.block_until_ready(results)

    loop = lambda: jax.block_until_ready(made.loop(*given))
    return made.call(*given), {
        "call": Program(calls, lambda result: None, made.calls),
        "loop": Program(loop, lambda result: None, made.calls),
    }
