"""Sinks: one more key for each head, whose score is the sink and whose value is 0.

(Xiao et al. 2024, "Efficient streaming language models with attention sinks"; as a learned logit
for each head: OpenAI 2025, "gpt-oss".)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from tests.support.calling import EVERY, assert_judged, forward, refusals, run
from tests.support.cases import Call, inputs
from tests.support.definition import weights
from tests.support.situations import TERMS, build, neutral, visible_by_definition

CALL = Call(H=6, K=3, bias="BHTS", softcap=1.3, T=7, S=5)


def given(call):
    """Sinks below, among and above the scores, a mask, its booleans; some rows are empty."""
    rng, (B, _, T, S) = np.random.default_rng(6), call.sizes
    leaves = neutral(call) | {
        "query_lengths": np.array([T - 1, T], np.int32),
        "key_lengths": np.array([S, S - 2], np.int32),
        "causal": np.array([1, -1], np.int32),
        "keys": rng.random((B, S)) < 0.9,
    }
    arrays = inputs(call, dtype=np.float32) | {"sinks": np.linspace(-2.0, 3.0, call.H)}
    return arrays, build(leaves, tuple(TERMS)), visible_by_definition(leaves)


def options(call):
    return {"scale": call.scale, "softcap": call.softcap}


@pytest.mark.parametrize("implementation", EVERY)
def test_definition_in_float64(x64, implementation):
    is_the_definition(CALL, np.float64, implementation)


@pytest.mark.parametrize("implementation", EVERY)
def test_definition_in_float32(implementation):
    is_the_definition(CALL, np.float32, implementation)


def test_definition_in_bfloat16():
    """Without groups, bias and cap, where the output is rounded once more."""
    is_the_definition(Call(), jnp.bfloat16, None)


def is_the_definition(call, dtype, implementation):
    arrays, mask, visible = given(call)
    arrays = {n: x.astype(dtype).astype(np.float64) for n, x in arrays.items()}
    with refusals(implementation):
        found = run(arrays, mask, implementation, dtype, **options(call))
    assert_judged(found, arrays, visible, dtype, **options(call))
    empty = ~visible.any(3)
    assert empty.any()
    assert not found["out"].swapaxes(1, 2)[empty].any()
    assert not found["dq"].swapaxes(1, 2)[empty].any()
    sinks = np.broadcast_to(arrays["sinks"][:, None], empty.shape)
    np.testing.assert_allclose(found["lse"][empty], sinks[empty], rtol=1e-6)


@pytest.mark.parametrize("implementation", EVERY)
def test_nothing_leaks(implementation):
    """NaN in what nobody sees, and in cotangents of outputs that are 0 whatever happens."""
    call = CALL
    arrays, mask, visible = given(call)
    keys, rows = visible.any((1, 2))[..., None, None], visible.any(3).swapaxes(1, 2)[..., None]
    shown = {"k": keys, "v": keys, "q": rows, "out": rows}
    bad = arrays | {n: np.where(s, arrays[n], np.nan) for n, s in shown.items()}
    assert all(np.isnan(bad[n]).any() for n in shown)
    with refusals(implementation):
        wanted = run(arrays, mask, implementation, **options(call))
        found = run(bad, mask, implementation, **options(call))
    for name, want in wanted.items():
        assert np.isfinite(want).all(), name
        assert np.array_equal(found[name], want), name


@pytest.mark.parametrize("implementation", EVERY)
def test_the_trace_shows_what_the_sink_left(implementation):
    call = CALL
    arrays, mask, visible = given(call)
    arrays = {n: jnp.asarray(arrays[n], jnp.float32) for n in arrays if n not in ("out", "lse")}
    with refusals(implementation):
        _, trace = forward(arrays, mask, implementation=implementation, **options(call))
    w = weights({n: np.asarray(x) for n, x in arrays.items()}, visible, **options(call))
    rows = np.asarray(jax.jit(lambda t: t.weights())(trace))
    np.testing.assert_allclose(rows, w["weights"], atol=1e-6)
    np.testing.assert_allclose(rows.sum(3) + w["sunk"], 1, atol=1e-5)
    assert (rows.sum(3) < 1).all()
    assert np.array_equal(trace.valid, visible.any(3))
    weight, index = jax.jit(lambda t: t.peak())(trace)
    np.testing.assert_allclose(weight, w["weights"].max(3), atol=1e-6)
    assert np.array_equal(index, w["weights"].argmax(3))


@pytest.mark.parametrize("implementation", EVERY)
def test_far_sinks(implementation):
    """A sink of -inf is none; a huge one takes everything; neither gives NaN."""
    call = CALL
    arrays, mask, _ = given(call)
    tries = (
        {n: x for n, x in arrays.items() if n != "sinks"},
        arrays | {"sinks": np.full(call.H, -np.inf)},
        arrays | {"sinks": np.full(call.H, 1e4)},
    )
    with refusals(implementation):
        none, low, high = (run(x, mask, implementation, **options(call)) for x in tries)
    for name, want in none.items():
        np.testing.assert_allclose(low[name], want, atol=1e-6, err_msg=name)
    assert not low["dsinks"].any()
    assert all(np.isfinite(x).all() for x in high.values())
    assert not high["out"].any()
    assert not high["dv"].any()
    np.testing.assert_allclose(high["lse"], 1e4)


@pytest.mark.parametrize("implementation", EVERY)
def test_no_keys_at_all(x64, implementation):
    """S = 0, and a mask that hides everything: the sink is all there is."""
    nothing = neutral(CALL) | {"key_lengths": np.zeros(2, np.int32)}
    for call, mask in ((Call(S=0), Mask()), (CALL, build(nothing, tuple(TERMS)))):
        arrays = inputs(call) | {"sinks": np.linspace(-1.0, 1.0, call.H)}
        with refusals(implementation):
            found = run(arrays, mask, implementation, np.float64, **options(call))
        assert_judged(found, arrays, np.zeros(call.sizes, bool), np.float64, **options(call))
        np.testing.assert_allclose(found["dsinks"], arrays["lse"].sum((0, 2)))
