"""Two processes train a suite together, are lost, and another mesh goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crossattn.train import crew

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("--seeds", "1", "--variants", "cross-attention", "--batch-size", "8")
METRICS = Path("runs") / "cross-attention" / "seed0" / "metrics.json"
SCRIPT = (
    "import sys; sys.path.insert(0, 'tests/experiments');"
    "import driver; from experiments import ablate;"
    "ablate.write_report = lambda results, out, **_: out;"
    "driver.main(sys.argv[1:])"
)


def begin(fatal, out, *options, devices):
    """The driver in a process of its own, which kills itself after so many steps."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(fatal), *SUITE, "--out", str(out), *options],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": ".",
            "JAX_PLATFORMS": "cpu",
            "JAX_NUM_CPU_DEVICES": str(devices),
            "JAX_COMPILATION_CACHE_DIR": str(out.parent / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(*processes):
    """Exit codes, and what was said; nobody is left behind."""
    try:
        said = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


def free_address():
    """Where processes could meet."""
    with socket.socket() as free:
        try:
            free.bind(("localhost", 0))
        except OSError as error:
            pytest.skip(f"processes cannot meet on this machine: {error}")
        return f"localhost:{free.getsockname()[1]}"


def together(out, *fatal, mesh="data=4"):
    """Two processes of two devices each."""
    address = free_address()
    return end(
        *(
            begin(at, out, "--mesh", mesh, "--distributed", address, "2", str(i), devices=2)
            for i, at in enumerate(fatal)
        )
    )


def test_a_process_that_nobody_meets_gives_up_in_one_line():
    alone = (
        "from crossattn.train import crew; crew.PATIENCE, crew.WAIT = 0.1, 1;"
        f"crew.start('ablate', ['{free_address()}', '2', '1'])"
    )
    done = subprocess.run([sys.executable, "-c", alone], capture_output=True, text=True, cwd=ROOT)
    *_, waiting, gave_up = done.stderr.splitlines()  # jax 0.7.2 warns before
    assert done.returncode == 2
    assert waiting == "ablate: waiting for the other processes"
    assert "not all processes came together within 1 seconds: give every one the same" in gave_up


def metrics(out):
    return json.loads((out / METRICS).read_text())["metrics"]


def test_lost_processes_end_the_others_and_another_mesh_goes_on(tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    codes, said = together(out, 0, 14)
    assert codes == [crew.LOST, -signal.SIGKILL], said
    assert "\nablate: process 1 on " in said[0]
    assert "is lost; checkpoints are safe, go on as before\n" in said[0]
    assert "Traceback" not in said[0]
    codes, _ = together(out, 9, 9)  # both
    assert set(codes) <= {crew.LOST, -signal.SIGKILL}
    assert -signal.SIGKILL in codes
    codes, said = together(out, 0, 0, mesh="fsdp=2,tensor=2")
    assert codes == [0, 0], said
    codes, said = end(begin(0, whole, devices=1))
    assert codes == [0], said
    assert metrics(out) == pytest.approx(metrics(whole), abs=1e-5)
    log = (out / METRICS).with_name("log.jsonl").read_text().splitlines()
    events = [(line["event"], line["step"]) for line in map(json.loads, log) if "event" in line]
    # When the process was killed, the checkpoint of step 10 was perhaps not whole yet.
    assert [event for event, _ in events] == ["start", "resume", "resume", "measured"]
    assert events[1][1] in (5, 10)
    assert events[2][1] in (5, 10, 15)
