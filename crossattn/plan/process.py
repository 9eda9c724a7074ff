"""Compiles programs in processes of `worker.py`, several at a time, and survives their death."""

from __future__ import annotations

import importlib.util
import itertools
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from crossattn.processes import ModuleProcess
from crossattn.train.record import RunRecord, library_versions, write_record

from .chips import Topology
from .programs import STEPS, ProgramSizes

WORKER = f"{__package__}.worker"
# The compiler asks for none of this where no TPU is, but looks for a machine that has one.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


class CompilerError(RuntimeError):
    """There is no compiler, it refuses the request, or it died; the text is one line."""


def check_compiler() -> None:
    """Make sure that the TPU compiler is installed.

    Raises:
      CompilerError: says what to install.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise CompilerError("the TPU compiler is not here: pip install 'crossattn[plan]'")


def compile_all(
    record: RunRecord,
    sizes: ProgramSizes,
    slice_: Topology,
    meshes: Sequence[str | None],
    announce: Callable[[str], None],
) -> list[dict[str, Any]]:
    """What the workers find out about a run on each mesh; None: the usual mesh of the slice.

    Each program has a process, and as many of them as there are cores run at the same time. A mesh
    on which a compiler dies has {mesh, died} and the others go on.

    Args:
      record: the run.
      sizes: what its data decide.
      slice_: the slice.
      meshes: as `crossattn.sharding.make_mesh` takes them.
      announce: is told what is being done.

    Raises:
      CompilerError: the topology or a mesh is refused, or the compiler does not start.
    """
    started: list[ModuleProcess] = []
    pool = futures.ThreadPoolExecutor(os.cpu_count())
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder), record)
        asked = []
        for number, (mesh, step) in enumerate(itertools.product(meshes, STEPS)):
            request: dict[str, Any] = {"run": folder, "dump": str(number), "mesh": mesh}
            request |= {"step": step, "topology": slice_.name, "sizes": sizes.to_json()}
            asked.append(pool.submit(_ask, request, announce, started))
        try:
            answers = [one.result() for one in asked]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in started:
                process.kill()
            pool.shutdown()
    steps = len(STEPS)
    return [_joined(answers[start : start + steps]) for start in range(0, len(answers), steps)]


def _joined(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One entry of what was found of a mesh's programs."""
    dead = next((answer for answer in answers if "died" in answer), None)
    return dead or {name: value for answer in answers for name, value in answer.items()}


def _ask(
    request: dict[str, Any], announce: Callable[[str], None], started: list[ModuleProcess]
) -> dict[str, Any]:
    """What is found of one program; {mesh, died} of one on which the compiler died."""
    mesh, found = request["mesh"], None
    # Switches for the compiler of this machine's device are none of the TPU's.
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    process = ModuleProcess(WORKER, environment=environment | ENVIRONMENT, title="the compiler")
    started.append(process)
    process.send(**request)
    for message in process.messages():
        found = message.get("result")
        if "refused" in message:
            process.end()
            raise CompilerError(message["refused"])
        if "stage" in message:
            mesh = message["mesh"]
            announce(message["stage"])
    reason = process.end()
    if found is not None:
        return found
    if mesh is None:
        raise CompilerError(f"the compiler does not start: {reason}")
    return {"mesh": mesh, "died": reason}


def record_of(suite: str, variant: str, run: Any) -> RunRecord:
    """A run as the worker reads it."""
    return RunRecord(suite, variant, 0, run, library_versions())
