"""Timing of benchmarks: what a figure is divided by, whose turn it is, what results are checked."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import attend
from crossattn.bench.benchmarks import decode, masks
from crossattn.bench.benchmarks.attention import with_gradients
from crossattn.bench.cases import Case, Shape
from crossattn.bench.timing import Budget, Program, UnavailableError, contest, jax_program
from crossattn.bench.truth import Truth

TINY = Shape("tiny", 2, 3, 7, 2, 5)


def fake(log, name, *, units=1, error=0.0):
    def run():
        log.append(name)
        return name

    return Program(run, lambda result: error, units, 7)


def case_of(*names):
    return Case("attention", TINY, "forward", "float32", names)


def test_contestants_take_turns():
    log = []
    builders = {
        "ours": lambda: fake(log, "ours"),
        "theirs": lambda: fake(log, "theirs", units=10**9),
        "wrong": lambda: fake(log, "wrong", error=float("nan")),
    }

    def build(name):
        if name not in builders:
            raise UnavailableError("no such thing")
        return builders[name]()

    names = ("ours", "theirs", "wrong", "absent", "deadly")
    budget = Budget(seconds=0.0, most=7, fewest=3)
    result = contest(case_of(*names), build, budget, lambda name: None, {"deadly": "it kills"})
    found = result["contestants"]
    assert result["rounds"] == 3
    assert found["wrong"] == {"reason": "its result is not finite"}
    assert found["absent"] == {"reason": "no such thing"}
    assert found["deadly"] == {"reason": "it kills"}
    assert len(found["ours"]["seconds"]) == len(found["theirs"]["seconds"]) == 3
    # A time is that of a unit.
    assert max(found["theirs"]["seconds"]) < 1e-8 < min(found["ours"]["seconds"])
    # After the warm-up of each, in every round each once.
    turns = [x for x in log if x != "wrong"][4:]
    assert [sorted(turns[i : i + 2]) for i in range(0, 6, 2)] == [["ours", "theirs"]] * 3
    # Never more rounds than allowed, however much time is left.
    result = contest(case_of("ours"), build, Budget(60.0, 7, 3), lambda name: None, {})
    assert result["rounds"] == 7


@pytest.mark.parametrize("form", decode.FORMS)
def test_a_run_makes_the_steps_that_its_time_is_divided_by(form):
    arguments = (jnp.float32(2), jnp.float32(1), jnp.float32(1))
    program = decode._program(form, lambda w, x, c: w * x + c, arguments, 3, lambda result: None)
    assert program.units == 3
    assert program.run() == 15


def test_a_run_makes_the_calls_that_its_time_is_divided_by():
    program = jax_program(lambda x: x, 1.0, error=lambda result: None, units=5, calls=3)
    assert program.units == 15


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system does not say")
def test_what_does_not_fit_into_memory_is_refused_beforehand():
    def huge(x):
        y = jnp.broadcast_to(x, (2**20, 2**24)).at[0].add(x)
        return jnp.sort(y, 0)[0]

    with pytest.raises(UnavailableError, match=r"needs \d+\.\d GiB beside its inputs, \d+\.\d GiB"):
        jax_program(huge, jnp.ones(1), error=lambda result: None)


@pytest.mark.parametrize("whole", [True, False])
def test_truth_agrees_with_the_definition(whole, monkeypatch, x64):
    if not whole:
        monkeypatch.setattr("crossattn.bench.truth.WHOLE", 1)
        monkeypatch.setattr("crossattn.bench.truth.EDGE", 1)
    monkeypatch.setattr("crossattn.bench.truth.BLOCK", 14)  # two queries at once
    rng = np.random.default_rng(0)
    B, T, S, H, D = TINY.sizes
    q, do = rng.standard_normal((2, B, T, H, D))
    k, v = rng.standard_normal((2, B, S, H, D))
    seen = rng.random((B, T, S)) < 0.7
    seen[:, :, 2] = True

    def call(q, k, v):
        mask = jnp.asarray(seen[:, None])
        return attend(q, k, v, mask=mask, implementation="reference")[0]

    found = list(jax.jit(with_gradients(call))(*map(jnp.asarray, (q, k, v, do))))
    truth = Truth.of(q, k, v, do, visible=lambda rows, b: seen[b][rows])
    assert ("dk" in truth.expected) == whole
    assert truth.error(found[:1]) < 1e-14
    assert truth.error(found) < 1e-14
    # An error is seen, and relative to the largest of its kind.
    found[1] = found[1].at[1, 2, 1, 4].add(0.5 * np.abs(truth.expected["dq"]).max())
    largest = max(np.abs(x).max() for n, x in truth.expected.items() if n != "out")
    assert truth.error(found) == pytest.approx(
        0.5 * np.abs(truth.expected["dq"]).max() / largest, rel=1e-6
    )
    found[2] = found[2] * jnp.nan
    assert np.isnan(truth.error(found)) == whole


@pytest.mark.parametrize("name", masks.KINDS)
def test_a_kind_of_mask_means_what_it_is_checked_against(name):
    B = 3 if name == masks.RAGGED else 1
    T, S = (17, 17) if name in masks.SQUARE else (5, 19)
    kind = masks.kind(name, Shape("tiny", B, T, S, 2, 3), seed=0)
    dense = np.asarray(kind.mask(*kind.arrays).dense_array(B, T, S))
    rows = np.arange(T)
    wanted = [np.broadcast_to(kind.visible(rows, b), (T, S)) for b in range(B)]
    assert np.array_equal(dense[:, 0], np.stack(wanted))
    assert np.stack(wanted).sum(2).mean() == pytest.approx(kind.keys)
