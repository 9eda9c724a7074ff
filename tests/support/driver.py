"""Run `experiments.ablate` on a tiny suite, and kills itself (SIGKILL) after so many steps.

python tests/support/driver.py STEPS OPTIONS...

STEPS 0: never; -n: before the n-th file of arrays is written.
"""

import os
import signal
import sys
import types

import jax

from crossattn.lab import suites, training
from crossattn.launch import lanes
from crossattn.train import outcome
from crossattn.train.run import Data, Model, Run
from crossattn.train.suite import Suite
from experiments import ablate
from experiments.entry import start

SUITE = Suite(
    name="tiny",
    title="two variants of nothing much",
    base=Run(
        data=Data(images=100, evaluation_images=100),
        model=Model(width=8, layers=1, heads=2),
        steps=23,
        batch_size=10,
        checkpoint_every=5,
    ),
    variants={
        "blind": {"model.context_view": "none"},
        "cross-attention": {"model.context_view": "tokens"},
    },
    baseline="cross-attention",
    primary="iid/accuracy",
    claims=(("cross-attention", "blind"),),
    quick={"steps": 7},
    learning_rates=(1e-3, 1e-2),
)


def install() -> None:
    """Make `tiny` a suite like those under configs/."""
    module = types.ModuleType("configs.tiny")
    module.SUITE = SUITE
    sys.modules["configs.tiny"] = module
    known = suites.suite_names()
    if "tiny" not in known:
        suites.suite_names = lambda: [*known, "tiny"]


# As many as the tests have: compiled programs are found again by device and number of devices.
DEVICES = 8


def two_lanes():
    """The devices of both lanes: the same one, so that all runs find one compiled program."""
    return [jax.devices()[0]] * 2


class _FatalBar(training.Bar):
    left = 0

    def __call__(self, label, step, metrics):
        super().__call__(label, step, metrics)
        _FatalBar.left -= 1
        if _FatalBar.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class _FatalSave:
    def __init__(self, left):
        self.left, self.save = left, outcome._save_arrays

    def __call__(self, path, arrays):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.save(path, arrays)


def main(arguments: list[str]) -> None:
    install()
    fatal = int(arguments[0])
    _FatalBar.left = fatal
    training.Bar = _FatalBar
    if fatal < 0:
        outcome._save_arrays = _FatalSave(-fatal)
    ablate.main(["tiny", *arguments[1:]])


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    lanes.jax.local_devices = two_lanes
    start(main)
