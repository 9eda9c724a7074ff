"""The other end of `worker.py`: starts some, hears what they find, survives their death."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from crossattn.train.record import RunRecord, library_versions, write_record

from .chips import Topology
from .programs import STEPS, Sizes

ROOT = Path(__file__).resolve().parents[2]
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
    """Make sure that there is one.

    Raises:
      CompilerError: says what to install.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise CompilerError("the TPU compiler is not here: pip install 'crossattn[plan]'")


def compile_all(
    record: RunRecord,
    sizes: Sizes,
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
      announce: hears what is being done.

    Raises:
      CompilerError: the topology or a mesh is refused, or the compiler does not start.
    """
    started: list[subprocess.Popen[str]] = []
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
    request: dict[str, Any],
    announce: Callable[[str], None],
    started: list[subprocess.Popen[str]],
) -> dict[str, Any]:
    """What is found of one program; {mesh, died} of one on which the compiler died."""
    mesh, found = request["mesh"], None
    with tempfile.TemporaryFile("w+") as errors:
        with subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker"],
            env=_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process:
            started.append(process)
            assert process.stdin
            assert process.stdout
            # Where it dies before it has read, the exit code says how.
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(json.dumps(request))
            for line in process.stdout:
                message = json.loads(line)
                if "refused" in message:
                    raise CompilerError(message["refused"])
                found = message.get("result")
                if "stage" in message:
                    mesh = message["mesh"]
                    announce(message["stage"])
        if found is not None:
            return found
        errors.seek(0)
        reason = _reason(process.returncode, errors.read())
    if mesh is None:
        raise CompilerError(f"the compiler does not start: {reason}")
    return {"mesh": mesh, "died": reason}


def _environment() -> dict[str, str]:
    # Switches for the compiler of this machine's device are none of the TPU's.
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    path = os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH"))))
    return kept | ENVIRONMENT | {"PYTHONPATH": path}


def _reason(code: int, said: str) -> str:
    """Why a process ended, in one line.

    Example:
      >>> _reason(1, "Traceback ...\\nValueError: no"), _reason(-6, "")
      ('ValueError: no', 'the compiler was killed (SIGABRT)')
    """
    if code < 0:
        return f"the compiler was killed ({signal.Signals(-code).name})"
    lines = said.strip().splitlines()
    return lines[-1] if lines else f"the compiler ended with code {code}"


def record_of(suite: str, variant: str, run: Any) -> RunRecord:
    """A run as the worker reads it."""
    return RunRecord(suite, variant, 0, run, library_versions())
