"""The process in which one benchmark is measured: cases come in by lines, times go out by lines.

It is a process of its own because the number of processor cores must be limited before jax and
torch start their threads, and because a peer that exhausts the memory takes its process with it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from typing import Any

import jax

from crossattn.processes import CAN_LIMIT, available_cores, open_answers

from .cases import Case
from .timing import Budget, contest

LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "tokamax", "torch", "transformers")


def introduce(device: str, send: Callable[..., None]) -> Any:
    """Send what this process is; returns the device of jax, or None where there is none."""
    try:
        place = jax.devices(device)[0]
    except RuntimeError:
        send(refused=f"jax finds no {device} here")
        return None
    found = {name: [*importlib.metadata.distributions(name=name)] for name in LIBRARIES}
    versions = {name: some[0].version for name, some in found.items() if some}
    cores = available_cores() if CAN_LIMIT else None
    send(device=place.device_kind, versions=versions, cores=cores)
    return place


def _serve(device: str) -> None:
    """Answer the requests on standard input."""
    send = open_answers()
    place = introduce(device, send)
    if place is None:
        return
    with jax.default_device(place):
        for line in sys.stdin:
            request = json.loads(line)
            case = Case.from_json(request["case"])
            send(about="the inputs")
            benchmark = importlib.import_module(f".benchmarks.{case.benchmark}", __package__)
            result = contest(
                case,
                benchmark.prepare(case),
                Budget(**request["budget"]),
                lambda name: send(about=name),
                request["excluded"],
            )
            send(result=result)


if __name__ == "__main__":
    _serve(sys.argv[1])
