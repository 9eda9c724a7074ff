"""The process in which all cases are compiled, then timed; what is done is sent at once."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from crossattn.processes import available_cores, open_answers

from ..ceilings import measured_ceilings
from ..timing import Budget
from ..worker import introduce
from .cases import DeviceCase
from .compiling import all_jobs, compile_jobs
from .measuring import measure_case
from .torch_backends import load_torch

# Of the time that is left, what compiling may take.
COMPILING = 0.6


def _serve(device: str) -> None:
    """Answer the one request on standard input."""
    send = open_answers()
    place = introduce(device, send)
    if place is None:
        return
    request = json.loads(sys.stdin.readline())
    end = time.monotonic() + request["seconds"]
    cases = [DeviceCase.from_json(case) for case in request["cases"]]
    excluded = {(index, name): reason for index, name, reason in request["excluded"]}
    budget = Budget(**request["budget"])
    todo = [index for index in range(len(cases)) if index not in request["done"]]
    lock = threading.Lock()

    def announce(**message: Any) -> None:
        with lock:
            send(**message)

    with jax.default_device(place):
        announce(ceilings=measured_ceilings(device, cases[0].dtype)._asdict())
        loading = threading.Thread(target=load_torch, args=(cases,), daemon=True)
        loading.start()
        compiled = compile_jobs(
            cases,
            list(all_jobs(cases, todo, excluded)),
            threads=len(available_cores()),
            until=time.monotonic() + COMPILING * (end - time.monotonic()),
            announce=announce,
        )
        loading.join()
        for done, index in enumerate(todo):
            left = end - time.monotonic()
            if left <= 0:
                break
            share = Budget(min(budget.seconds, left / (len(todo) - done)), budget.most)
            known = {**compiled, **excluded}
            made = {name: one for (at, name), one in known.items() if at == index}
            said = functools.partial(_said, announce, index)
            announce(record=[index, measure_case(cases[index], made, share, said)])
    announce(done=True)


def _said(announce: Callable[..., None], index: int, name: str) -> None:
    announce(about=[index, name])


if __name__ == "__main__":
    _serve(sys.argv[1])
    sys.stdout.flush()
    # Threads of compilers that were given up would be waited for.
    os._exit(0)
