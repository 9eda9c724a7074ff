"""A finished tiny suite for the tests of commands, made by the worker that needs it first."""

import fcntl
import json
import os
import shutil

import jax
import pytest

from tests.support import driver
from tests.support.kept_programs import kept_programs
from tests.support.suite_command import covered, typed

driver.install()


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """A folder that all workers have."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="module")
def programs(shared):
    """Programs are compiled once for all tests, here and in the processes that get killed."""
    jax.devices()  # all that the tests have, before the command asks for one per core
    folder, before = str(shared / "programs"), jax.config.jax_compilation_cache_dir
    with pytest.MonkeyPatch.context() as patch, kept_programs():
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        jax.config.update("jax_compilation_cache_dir", folder)
        yield
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture(scope="module")
def finished(programs, shared, tmp_path_factory):
    """A copy of the suite's folder, and what the two commands said that made it."""
    made, said = shared / "suite" / "out", shared / "suite" / "said.json"
    with (shared / "suite.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            said.parent.mkdir()
            said.write_text(json.dumps(make_suite(made)))
    return shutil.copytree(made, tmp_path_factory.mktemp("finished") / "out"), *json.loads(
        said.read_text()
    )


def make_suite(out):
    """First the baseline alone, then the rest: it just adds."""
    first = typed("--seeds", 2, "--variants", "cross-attention", "--out", out)
    assert covered(out) == {("cross-attention", 0), ("cross-attention", 1)}
    assert "covers 1 of the suite's 2 variants; blind was left" in (out / "report.md").read_text()
    return first, typed("--seeds", 2, "--out", out, report=True)
