"""One tiny run and its compiled programs, shared by the tests of training."""

import jax
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.train.loop import TrainPrograms
from crossattn.train.run import Data, Model, Optimizer, Run

TINY = Run(
    data=Data(images=100, evaluation_images=100),
    model=Model(width=8, layers=1, heads=2),
    optimizer=Optimizer(learning_rate=0.01),
    steps=13,
    batch_size=10,
    checkpoint_every=4,
)


@pytest.fixture(scope="package")
def run():
    return TINY


@pytest.fixture(scope="package")
def examples():
    return scenes.examples("train", 100, seed=0)


@pytest.fixture(scope="package")
def programs(run, examples):
    return TrainPrograms(run, len(examples.vocabulary))


@pytest.fixture
def same():
    """Two trees of arrays are equal to the last bit."""

    def check(one, other):
        one, other = jax.device_get((one, other))
        return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(np.all(a == b)), one, other)))

    return check
