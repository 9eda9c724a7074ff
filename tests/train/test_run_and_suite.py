"""Runs refuse bad values; suites name what they compare; every shipped suite is sound."""

import importlib
import pkgutil

import pytest

import configs
from crossattn.train.run import Data, Model, Optimiser, Run, replace
from crossattn.train.suite import Suite

SUITES = [module.name for module in pkgutil.iter_modules(configs.__path__)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Run(steps=0), "steps must be positive, got 0"),
        (lambda: Run(batch_size=63), "batch_size 63 is not a multiple of data.texts_per_image 2"),
        (lambda: Model(width=10, heads=4), "width 10 is not a multiple of heads 4"),
        (lambda: Optimiser(warmup=1.5), "warmup is a share"),
        (lambda: Optimiser(learning_rate=-1.0), "learning_rate must be positive"),
        (lambda: Data(images=-100), "cannot be negative"),
        (lambda: replace(Run(), {"model.depth": 3}), "Model has no field 'depth'"),
    ],
)
def test_bad_values_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_replace_changes_one_field():
    run = replace(Run(), {"model.fusion": "blind"})
    assert run.model.fusion == "blind"
    assert replace(run, {"model.fusion": "cross-attention"}) == Run()


def test_a_suite_must_know_its_variants():
    with pytest.raises(ValueError, match="no variant b"):
        Suite(
            name="s",
            title="t",
            base=Run(),
            variants={"a": {}},
            baseline="a",
            primary="iid/accuracy",
            claims=(("a", "b"),),
            quick={},
        )


@pytest.mark.parametrize("name", SUITES)
def test_shipped_variants_change_one_field(name):
    suite = importlib.import_module(f"configs.{name}").SUITE
    assert suite.name == name
    assert all(len(changes) == 1 for changes in suite.variants.values())
