"""Strict for everything: 8 CPU devices, strict promotion, checked annotations."""

import gc
import importlib.metadata
import itertools
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile much and run little. Without XLA's fusion emitters compilation takes two thirds, and
# a tenth less where a program is not split for many cores. jax 0.12 no longer knows the first of
# these switches, and ends a process that names it.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    * ([int(n) for n in importlib.metadata.version("jaxlib").split(".")[:2]] < [0, 11]),
)

import jax
import jaxtyping
import pytest
from jaxtyping import install_import_hook

# Thousands of compiled programs stay in memory: looking for garbage among them takes minutes.
gc.set_threshold(100_000, 50, 1000)


jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Commands choose a number of devices as long as nobody has looked at them.
jax.devices()

# The checker is named as a string so that the library never imports beartype.
install_import_hook("crossattn", "beartype.beartype")

# Begun first, so that no worker has one of these left when the other has nothing more to do.
LONGEST = ("test_presets", "test_processes", "test_launching", "test_ablate")


def pytest_collection_modifyitems(items):
    """Files keep their order otherwise."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


# Modules after which a worker gives back what it has compiled, which would come to 10 GB.
MODULES_BETWEEN = 40
modules = itertools.count(1)


@pytest.fixture(scope="module", autouse=True)
def released():
    yield
    if next(modules) % MODULES_BETWEEN == 0:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64():
    """Run one test in float64."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def unchecked():
    """Try errors as a user meets them: without the checked annotations."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
