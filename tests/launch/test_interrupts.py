"""Ctrl-C is answered at once, and waits for nothing but checkpoints."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from crossattn.launch import interrupts, lanes
from crossattn.launch.interrupts import graceful_interrupt
from experiments.command_line import plain_errors

ROOT = Path(__file__).resolve().parents[2]


def test_interrupting_says_what_is_safe(capsys):
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_what_is_safe_stands_in_lines_with_names_escaped(capsys):
    safe = lambda: "interrupted\n  a\x1b seed 0 goes on from step 3 of 9\nto go on: ablate"
    with pytest.raises(SystemExit), plain_errors("ablate", (), safe=safe):
        raise KeyboardInterrupt
    said = capsys.readouterr().err.split("\n")
    between = "  a\\x1b seed 0 goes on from step 3 of 9"
    assert said == ["", "ablate: interrupted", between, "to go on: ablate", ""]


# What ends a thread here ends the process there.
ENDING = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def ended(monkeypatch):
    """With which codes the process would have ended."""
    codes = []

    def end(code):
        codes.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", end)
    return codes


@ENDING
def test_the_second_interrupt_ends_at_once(ended, capfd):
    before = signal.getsignal(signal.SIGINT)
    with graceful_interrupt("ablate", lambda: "safe"):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again ends at once" in capfd.readouterr().err
        assert ended == []
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGINT)
        assert set(ended) == {130}
    assert signal.getsignal(signal.SIGINT) == before
    assert signal.set_wakeup_fd(-1) == -1


@ENDING
def test_an_interrupt_that_met_a_destructor_comes_again(ended, capfd):
    """Python drops what is raised there: the command would go on to its end."""

    class Met:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def work():
        Met()
        threading.Event().wait(60)

    with graceful_interrupt("ablate", lambda: "safe"), pytest.raises(KeyboardInterrupt):
        work()
    assert ended == []
    assert capfd.readouterr().err.count("stopping") == 1


@ENDING
def test_an_interrupt_waits_for_checkpoints_but_not_for_native_code(ended, monkeypatch, capfd):
    written = [True, True, False]
    monkeypatch.setattr(interrupts, "saving", lambda: written.pop(0))
    monkeypatch.setattr(interrupts, "SIGNAL_TIMEOUT", 0.001)
    with graceful_interrupt("ablate", lambda: "a\udcff is safe"):
        # A signal is heard of in two ways, of which the other waits until native code returns.
        heard = signal.set_wakeup_fd(-1)
        os.write(heard, bytes([signal.SIGUSR1, signal.SIGINT]))
        (listening,) = (one for one in threading.enumerate() if "listen" in one.name)
        listening.join(60)
    assert ended == [130]
    assert written == []
    said = capfd.readouterr().err
    answers = ("stopping; Ctrl-C again ends at once", r"a\udcff is safe")
    assert said == "".join(f"\nablate: {answer}\n" for answer in answers)


def test_an_interrupted_command_does_not_wait_for_jobs_that_do_not_look(monkeypatch):
    begun, over = threading.Event(), threading.Event()

    def job(check):
        begun.set()
        over.wait(60)  # compiles
        with pytest.raises(lanes.StoppedError):
            check()

    wait = lanes.wait

    def press(jobs, timeout=None, **how):
        if timeout is not None:
            return wait(jobs, timeout=timeout)
        begun.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(lanes, "STOP_TIMEOUT", 0.001)
    monkeypatch.setattr(lanes, "wait", press)
    with (
        pytest.raises(SystemExit) as end,
        graceful_interrupt("ablate", str),
        plain_errors("ablate", ()),
    ):
        lanes.run_lanes(job, [()])
    assert end.value.code == 130
    (lane,) = (one for one in threading.enumerate() if one.name.startswith("lane"))
    over.set()
    lane.join(60)


@pytest.mark.slow
def test_an_interrupt_while_compiling_ends_the_command(tmp_path):
    """With --dry-run nothing is written, and the first step is compiled for some seconds."""
    command = [sys.executable, "-m", "experiments.ablate", "fusion", "--dry-run"]
    larger = ["--variants", "blind", "--model.layers", "8", "--out", str(tmp_path / "out")]
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
    with subprocess.Popen(
        [*command, *larger], stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        for line in process.stderr:
            if line.startswith("timing"):
                break
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        said = process.stderr.read()
    assert process.returncode == 130
    assert time.monotonic() - pressed < 5
    assert said.startswith("\nablate: stopping; Ctrl-C again ends at once\n\nablate: interrupted; ")
    assert "Traceback" not in said
