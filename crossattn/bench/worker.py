"""The process in which one benchmark is measured: cases come in by lines, times go out by lines.

It is a process of its own because the number of processor cores must be limited before jax and
torch start their threads, and because a peer that exhausts the memory takes its process with it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import sys
from typing import Any

import jax

from .cases import Case
from .process import CAN_LIMIT, available_cores
from .timing import Budget, contest

LIBRARIES = ("jax", "jaxlib", "flax", "numpy", "tokamax", "torch")


def main(device: str) -> None:
    """Answer the requests on standard input."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        place = jax.devices(device)[0]
    except RuntimeError:
        send(refused=f"jax finds no {device} here")
        return
    cores = available_cores() if CAN_LIMIT else None
    send(device=place.device_kind, versions=versions(), cores=cores)
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


def versions() -> dict[str, str]:
    """Of the libraries that are installed."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(sys.argv[1])
