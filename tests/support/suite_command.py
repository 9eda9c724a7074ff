"""The command `ablate` on a tiny suite: typed, killed, interrupted, its files damaged."""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from crossattn.lab import training
from crossattn.launch import interrupts, lanes
from crossattn.report import document
from experiments import ablate
from tests.support import driver

ROOT = Path(__file__).resolve().parents[2]


def killed(steps, *options):
    """Run the driver in a process that kills itself."""
    script = [sys.executable, "tests/support/driver.py", str(steps), *options]
    environment = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run(
        script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def typed(*arguments, report=False):
    """Run the command here; returns what it said. Figures take longer than all the rest."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("jax.local_devices", driver.two_lanes)
        if not report:
            patch.setattr(document, "write_report", only_notes)
        ablate.main(["tiny", *map(str, arguments)])
    assert "Traceback" not in err.getvalue()
    return out.getvalue(), err.getvalue()


def only_notes(results, out, *, notes, **_):
    (out / "report.md").write_text("\n".join(notes))
    return out / "report.md"


def results(out):
    return json.loads((out / "results.json").read_text())


def covered(out):
    return {(run["variant"], run["seed"]) for run in results(out)["runs"]}


def emptied(name):
    return lambda run: (run / name).write_bytes(b"")


def rewritten(name, change):
    def damage(run):
        (run / name).write_bytes(change((run / name).read_bytes()))

    return damage


def changed(**values):
    """metrics.json with other values, None for none, which is JSON all the same."""

    def damage(run):
        content = json.loads((run / "metrics.json").read_text())
        for name, value in values.items():
            if value is None:
                del content[name]
            else:
                content[name] = value
        (run / "metrics.json").write_text(json.dumps(content))

    return damage


def other_shape(run):
    np.savez_compressed(run / "items.npz", **{driver.SUITE.primary: np.zeros((3, 2))})


class Counting(training.Bar):
    """Counts the steps of each variant."""

    steps: ClassVar[dict[str, int]] = {}

    def __call__(self, label, step, metrics):
        super().__call__(label, step, metrics)
        variant, _, what = label.partition(" ")
        Counting.steps[variant] = Counting.steps.get(variant, 0) + ("evaluating" not in what)


class Interrupting(training.Bar):
    """Somebody presses Ctrl-C after seven steps."""

    steps = 0

    def __call__(self, label, step, metrics):
        super().__call__(label, step, metrics)
        Interrupting.steps += 1
        if Interrupting.steps == 7:
            os.kill(os.getpid(), signal.SIGINT)
        # No run may end before the main thread has heard of it: the check then raises.
        while Interrupting.steps >= 7:
            self.check()


def interrupted(*options):
    """Exit code, and what was said."""
    Interrupting.steps = 0
    return ended_by(Interrupting, *options)


def ended_by(bar, *options):
    """Exit code, and what was said."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()) as err:
        patch.setattr(training, "Bar", bar)
        # What an interrupted command leaves behind would end these tests.
        patch.setattr(lanes, "STOP_TIMEOUT", 600)
        patch.setattr(interrupts, "SIGNAL_TIMEOUT", 600)
        patch.setattr("jax.local_devices", driver.two_lanes)
        with pytest.raises(SystemExit) as end:
            ablate.main(["tiny", *options])
    return end.value.code, err.getvalue()


def removed(out, aside):
    while out.exists():  # a save may be under way
        shutil.rmtree(out, ignore_errors=True)


def renamed(out, aside):
    out.rename(aside)


def replaced_by_a_file(out, aside):
    out.rename(aside)
    out.write_text("")


def run_removed(out, aside):
    removed(out / "runs", aside)
