"""Programs of training and evaluation, kept from one command to the next in one process.

Every command traces its own, which is most of what a tiny suite takes of the time of a test.
"""

import contextlib
import functools

import pytest

from crossattn.lab import runs
from crossattn.plan import dry_run
from crossattn.train import ablation, trained
from crossattn.train.evaluate import Evaluator
from crossattn.train.loop import TrainPrograms
from crossattn.train.parallel import SINGLE_DEVICE


@contextlib.contextmanager
def kept_programs():
    """Within it, programs of an equal run, or model, over equal devices are made once."""
    made = functools.cache(lambda kind, *given: kind(*given))

    def train(run, words, parallel=SINGLE_DEVICE):
        return made(TrainPrograms, run, words if isinstance(words, int) else (*words,), parallel)

    def evaluate(model, parallel=SINGLE_DEVICE):
        return made(Evaluator, model, parallel)

    with pytest.MonkeyPatch.context() as patch:
        for module in (ablation, trained, dry_run):
            patch.setattr(module, "TrainPrograms", train)
        for module in (ablation, runs):
            patch.setattr(module, "Evaluator", evaluate)
        yield
