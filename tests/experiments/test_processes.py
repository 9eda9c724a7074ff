"""Two processes train a suite together, are lost, and another mesh goes on."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from crossattn.train import multihost

ROOT = Path(__file__).resolve().parents[2]
SUITE = ("--seeds", "1", "--variants", "cross-attention", "--batch-size", "8")
METRICS = Path("runs") / "cross-attention" / "seed0" / "metrics.json"
SCRIPT = (
    "import sys; from tests.support import driver; from experiments import ablate;"
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


# Prints where it listens as long as it waits.
ALONE = """
import sys, threading, time
from crossattn.train import multihost
multihost.PATIENCE, multihost.WAIT = 0.1, 2
port = f"{int(sys.argv[1].rpartition(':')[2]):04X}"
def look():
    found = set()
    while not found and sys.argv[2] == "0":
        lines = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}")]
        found = {x[1] for x in lines if x[1].endswith(f":{port}") and x[3] == "0A"}
    print(*found, flush=True)
threading.Thread(target=look, daemon=True).start()
multihost.initialize("ablate", [sys.argv[1], "2", sys.argv[2]])
"""


@pytest.mark.parametrize("index", ["0", pytest.param("1", marks=pytest.mark.slow)])
def test_a_process_that_nobody_meets_gives_up_in_one_line_and_listens_where_it_was_told(index):
    if not Path("/proc/net/tcp").exists():
        pytest.skip("the system does not say who listens where")
    address = free_address()
    command = [sys.executable, "-c", ALONE, address, index]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    *_, waiting, gave_up = done.stderr.splitlines()  # jax 0.7.2 warns before
    assert done.returncode == 2
    assert waiting == "ablate: waiting for the other processes"
    assert "not all processes came together within 2 seconds: give every one the same" in gave_up
    listening = {place.partition(":")[0] for place in done.stdout.split()}
    # 127.0.0.1, as such or in IPv6, and ::1, with the bytes of each word turned round.
    here = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert listening <= here
    assert bool(listening) == (index == "0")


def started(monkeypatch, *explicit):
    """What JAX is told when these are the options."""
    told = {}
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *args, **named: told.update(named, args=args)
    )
    multihost.initialize("ablate", explicit)
    return told


@pytest.mark.parametrize("address", ["127.0.0.1:1234", "localhost:1234"])
def test_process_0_listens_at_the_address_that_was_given(address, monkeypatch, capsys):
    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    told = started(monkeypatch, address, "2", "0")
    assert told["coordinator_bind_address"] == address
    assert told["args"] == (address, 2, 0)
    assert started(monkeypatch, address, "2", "1")["coordinator_bind_address"] is None
    assert started(monkeypatch)["coordinator_bind_address"] is None
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "[::]:1234")
    assert started(monkeypatch, address, "2", "0")["coordinator_bind_address"] is None


def test_names_are_looked_up_before_process_0_listens(monkeypatch, capsys):
    names = {"node0": "127.0.1.1", "elsewhere": "192.0.2.77", "::1": "::1"}

    def look_up(host, *_, **__):
        if host not in names:
            raise socket.gaierror("unknown")
        return [(None, None, None, "", (names[host], 0))]

    monkeypatch.delenv("JAX_COORDINATOR_BIND_ADDRESS", raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(multihost, "_here", lambda address: not address.startswith("192."))
    assert started(monkeypatch, "[::1]:7", "1", "0")["coordinator_bind_address"] == "[::1]:7"
    assert started(monkeypatch, "node0:7", "2", "0")["coordinator_bind_address"] == "node0:7"
    assert "node0 is 127.0.1.1 on this machine: processes of others" in capsys.readouterr().err
    with pytest.raises(ValueError, match="no address of this machine, where process 0 is to"):
        started(monkeypatch, "elsewhere:7", "2", "0")
    started(monkeypatch, "elsewhere:7", "2", "1")
    with pytest.raises(ValueError, match="there is no host nowhere"):
        started(monkeypatch, "nowhere:7", "2", "0")


@pytest.mark.parametrize(
    "explicit",
    [
        *("::1:7 2 0", "node0 2 0", "node0:0 2 0", "node0:65536 2 0", "node0:x 2 0", "[::1] 2 0"),
        *("node0:7 2 2", "node0:7 0 0", "node0:7 -1 0", "node0:7 2 -1", " :7 2 0", ":7 2 0"),
    ],
)
def test_an_address_without_host_or_port_is_refused(explicit):
    with pytest.raises(ValueError, match="write an address with its port, as node0:1234"):
        multihost.initialize("ablate", explicit.rsplit(" ", 2))


def metrics(out):
    return json.loads((out / METRICS).read_text())["metrics"]


@pytest.mark.slow
def test_lost_processes_end_the_others_and_another_mesh_goes_on(tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    codes, said = together(out, 0, 14)
    assert codes == [multihost.LOST, -signal.SIGKILL], said
    assert "\nablate: process 1 on " in said[0]
    assert "is lost; checkpoints are safe, go on as before\n" in said[0]
    assert "Traceback" not in said[0]
    codes, _ = together(out, 9, 9)  # both
    assert set(codes) <= {multihost.LOST, -signal.SIGKILL}
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
