"""A module can be reached and read again by its name: nothing of a package hides it."""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import configs
import crossattn
import experiments

ROOT = Path(__file__).resolve().parents[1]
RELOADS = """
import importlib, pkgutil, jax, crossattn.nn
q, k = (jax.ShapeDtypeStruct((2, n, 8, 64), "float32") for n in (64, 4096))
wanted = crossattn.explain(q, k, k)
rooms = [getattr(crossattn, room) for room in ("ops", "sharding", "nn")]
walks = [pkgutil.walk_packages(room.__path__, room.__name__ + ".") for room in rooms]
for walk in (pkgutil.iter_modules(crossattn.__path__, "crossattn."), *walks):
    for found in walk:
        module = importlib.import_module(found.name)
        assert importlib.reload(module) is module, found.name
        assert crossattn.explain(q, k, k) == wanted, found.name
        assert crossattn.ops.api.explain(q, k, k) == wanted, found.name
assert crossattn.attention(*(jax.numpy.ones((1, 2, 3, 4)),) * 3).shape == (1, 2, 3, 4)
"""


def packages(*tops):
    for top in tops:
        yield top
        for found in pkgutil.walk_packages(top.__path__, f"{top.__name__}."):
            if found.ispkg:
                yield importlib.import_module(found.name)


def test_no_attribute_of_a_package_hides_a_module():
    hidden = [
        f"{package.__name__}.{found.name}"
        for package in packages(crossattn, configs, experiments)
        for found in pkgutil.iter_modules(package.__path__)
        if not isinstance(getattr(package, found.name, ModuleType("")), ModuleType)
    ]
    assert hidden == []


@pytest.mark.slow
def test_explain_works_after_any_module_was_read_again():
    # Modules read again have other classes: not in the process of the other tests.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", RELOADS]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
