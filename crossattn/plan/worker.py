"""The process in which one program is compiled for TPUs that are not here.

It is a process of its own because the compiler ends it when it fails, because the environment must
be set before jax is imported (see `process.py`, which starts it), and because it is ended early:
what a plan needs is known when the compiler has assigned the buffers, after a fiftieth of its time.

A request comes in as one JSON object {run, dump, mesh, step, topology, sizes}; `run` is a folder
with a run.json, `dump` the name of one to be made in it. Lines go out, JSON objects too: {stage},
{result}, or {refused} when the request is at fault.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from concurrent import futures
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import Mesh

from crossattn.processes import open_answers
from crossattn.sharding import axes_of, make_mesh
from crossattn.sharding.wire import COUNTABLE
from crossattn.train.record import read_record

from . import compiled
from .chips import topology
from .programs import STEPS, PlannedPrograms, ProgramSizes, check_mesh

# Seconds between two looks at what the compiler has written.
POLL_INTERVAL = 0.1
# Of the memory. What needs more is compiled to the end: code needs room, and by how much a program
# is too large is for the compiler to say.
SURELY_FITS = 0.9


def _serve() -> None:
    """Answer the request on standard input."""
    send = open_answers()
    request = json.loads(input())
    folder = Path(request["run"])
    run = read_record(folder).run
    slice_ = topology(request["topology"])
    try:
        host = {"chips_per_host_bounds": slice_.host}
        there = topologies.get_topology_desc(slice_.name, "tpu", **host)
        mesh = make_mesh(request["mesh"], devices=there.devices)
        check_mesh(run, mesh.shape)
    except Exception as error:  # jax raises what it gets from the compiler
        send(refused=str(error).splitlines()[0])
        return
    programs = PlannedPrograms(run, ProgramSizes.from_json(request["sizes"]))
    plan, step = programs.plan(mesh), request["step"]
    axes = axes_of(mesh)
    notes = [f"no array is split over {axis}: its devices all do the same" for axis in plan.idle]
    if mesh.shape["context"] > 1:
        notes.append("numbers by formula take the devices along context to do the same work")
    found = {"mesh": axes, "devices": mesh.size, "notes": [*plan.notes, *notes]}

    def announce(doing: str) -> None:
        send(stage=f"{slice_.name}, {axes}: {doing} the {STEPS[step]} step", mesh=axes)

    announce("compiling")
    lower = {"train": programs.lower_step, "evaluation": programs.lower_evaluation}[step]
    times = [time.perf_counter()]
    lowered = lower(mesh)
    times.append(time.perf_counter())
    answer = _compile(lowered, mesh, slice_.chip.memory, folder / request["dump"], announce)
    times.append(time.perf_counter())
    tracing, compilation = (round(end - start, 2) for start, end in pairwise(times))
    answer["seconds"] = {"tracing": tracing, "compilation": compilation}
    send(result=found | {step: answer})
    # The compiler has threads that know no end.
    os._exit(0)


def _compile(
    lowered: Any, mesh: Mesh, memory: int, dump: Path, announce: Callable[[str], None]
) -> dict[str, Any]:
    """What a program needs of each device, or by how much it does not fit.

    Args:
      lowered: the program.
      mesh: that it is for.
      memory: bytes of a device.
      dump: an empty folder, for what the compiler writes on its way.
      announce: is told what else is done.
    """
    options = COUNTABLE | {"xla_dump_to": str(dump), "xla_dump_hlo_as_text": True}
    compilation = futures.ThreadPoolExecutor(1).submit(lowered.compile, options)
    while not compilation.done():
        futures.wait([compilation], timeout=POLL_INTERVAL)
        found = compiled.early(dump, mesh)
        if found and sum(found["bytes"].values()) < SURELY_FITS * memory:
            return found
        if found:
            announce("little memory is left, so minutes for the machine code of")
            futures.wait([compilation])
    try:
        program = compilation.result()
    except jax.errors.JaxRuntimeError as error:
        if (over := compiled.exceeded(str(error))) is None:
            raise
        return {"fits": False, **over}
    # A program that was in a cache leaves no files.
    return compiled.early(dump, mesh) or compiled.read_program(program, mesh)


if __name__ == "__main__":
    _serve()
