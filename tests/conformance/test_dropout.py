"""Dropout of weights, for the implementations that can.

Right on average, reproducible, and with the gradient of the function that it makes of its key
(Srivastava et al. 2014, "Dropout").
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.calling import EVERY, assert_judged, forward, refusals, run
from tests.support.cases import Call, inputs
from tests.support.definition import judge, weights
from tests.support.situations import TERMS, build, neutral, visible_by_definition

RATE = 0.3
KEY = jax.random.key(7)
CALLS = (
    Call(T=7, S=17),
    Call(H=6, K=3, T=7, S=17, bias="HTS", softcap=1.3),
)
for_implementations = pytest.mark.parametrize("implementation", EVERY)
for_calls = pytest.mark.parametrize("call", CALLS, ids=str)


def given(call):
    """Inputs, a mask with rows without keys in it, and its booleans."""
    rng, (B, _, T, S) = np.random.default_rng(8), call.sizes
    leaves = neutral(call) | {
        "query_lengths": np.array([T - 1, T], np.int32),
        "key_lengths": np.array([S, S - 3], np.int32),
        "causal": np.array([S, -1], np.int32),
        "keys": rng.random((B, S)) < 0.9,
    }
    visible = visible_by_definition(leaves)
    return inputs(call, dtype=np.float32), build(leaves, tuple(TERMS)), visible


def options(call, rate=RATE):
    return {"scale": call.scale, "softcap": call.softcap, "rate": rate}


def kept(call, arrays, mask, visible, implementation, key=KEY):
    """What each weight was multiplied by, seen through values that are one-hot in the keys."""
    probe = {n: jnp.asarray(x, jnp.float32) for n, x in arrays.items()}
    probe["v"] = jnp.broadcast_to(jnp.eye(call.S)[:, None], (call.B, call.S, call.K, call.S))
    out, _ = forward(probe, mask, key, implementation=implementation, **options(call))
    p = weights(arrays, visible, call.scale, call.softcap)["weights"]
    return np.where(p > 0, np.asarray(out).swapaxes(1, 2) / np.where(p > 0, p, 1), 0), p > 0


@for_implementations
@for_calls
def test_a_weight_is_dropped_or_grows(call, implementation):
    arrays, mask, visible = given(call)
    with refusals(implementation):
        factor, there = kept(call, arrays, mask, visible, implementation)
    dropped = np.abs(factor) < 1e-6
    np.testing.assert_allclose(factor[there & ~dropped], 1 / (1 - RATE), rtol=1e-3)
    share, n = dropped[there].mean(), there.sum()
    assert abs(share - RATE) < 4 * np.sqrt(RATE * (1 - RATE) / n)
    # Examples, heads and queries each drop their own.
    both = there[0] & there[1]
    assert (dropped[0] != dropped[1])[both].mean() > RATE * (1 - RATE)
    assert (dropped[:, 0] != dropped[:, 1]).mean() > 0.1
    assert (dropped[:, :, 1] != dropped[:, :, 2]).mean() > 0.1


@for_implementations
@for_calls
def test_gradients_are_those_of_the_function_of_the_key(call, implementation):
    """With the cotangent of the lse, which dropout leaves alone, and with sinks."""
    arrays, mask, visible = given(call)
    with refusals(implementation):
        factor, _ = kept(call, arrays, mask, visible, implementation)
    factor = np.where(np.abs(factor) < 1e-6, 0, 1 / (1 - RATE))
    for more in ({}, {"sinks": np.linspace(-1.0, 1.0, call.H)}):
        found = run(arrays | more, mask, implementation, key=KEY, **options(call))
        same = {"scale": call.scale, "softcap": call.softcap}
        assert_judged(found, arrays | more, visible, np.float32, kept=factor, **same)


@for_implementations
def test_the_mean_over_keys_is_the_undropped_output(implementation):
    call, n = CALLS[1], 400
    arrays, mask, visible = given(call)
    device = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}

    def one(key):
        return forward(device, mask, key, implementation=implementation, **options(call))[0]

    with refusals(implementation):
        outs = jax.jit(jax.vmap(one))(jax.random.split(KEY, n))
    w = weights(arrays, visible, call.scale, call.softcap)
    spread = np.einsum("bhij,bjhv->bihv", w["weights"] ** 2, w["v"] ** 2) * RATE / (1 - RATE) / n
    error = np.asarray(outs, np.float64).mean(0) - judge(arrays, visible, *same(call))["out"]
    assert (np.abs(error) <= 6 * np.sqrt(spread) + 1e-6).all()
    # Not merely within a wide net: the errors are as large as chance makes them.
    there = spread > 0
    assert 0.7 < np.mean(error[there] ** 2 / spread[there]) < 1.4


def same(call):
    return call.scale, call.softcap


@for_implementations
def test_a_key_says_which(implementation):
    call = CALLS[0]
    arrays, mask, _ = given(call)
    with refusals(implementation):
        first, again, other = (
            run(arrays, mask, implementation, key=key, **options(call))
            for key in (KEY, jax.random.key(7), jax.random.key(8))
        )
    for name, x in first.items():
        assert np.array_equal(again[name], x), name
        assert np.array_equal(other[name], x) == (name == "lse"), name


@for_implementations
def test_a_rate_of_zero_is_none(implementation):
    call = CALLS[0]
    arrays, mask, _ = given(call)
    device = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}
    with refusals(implementation):
        found, _ = forward(device, mask, KEY, implementation=implementation, **options(call, 0.0))
        wanted, _ = forward(device, mask, implementation=implementation, **options(call, None))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@for_implementations
def test_the_trace_shows_the_weights_before(implementation):
    call = CALLS[1]
    arrays, mask, visible = given(call)
    device = {name: jnp.asarray(x, jnp.float32) for name, x in arrays.items()}
    with refusals(implementation):
        _, trace = forward(device, mask, KEY, implementation=implementation, **options(call))
    wanted = weights(arrays, visible, *same(call))
    np.testing.assert_allclose(jax.jit(lambda t: t.weights())(trace), wanted["weights"], atol=1e-6)
    np.testing.assert_allclose(trace.lse, wanted["lse"], atol=1e-5)


@for_implementations
def test_what_nobody_sees_is_not_dropped_in(implementation):
    """Bit for bit: NaN where nobody looks, with dropout."""
    call = CALLS[1]
    arrays, mask, visible = given(call)
    keys = visible.any((1, 2))[..., None, None]
    queries = visible.any(3).swapaxes(1, 2)[..., None]
    shown = {"k": keys, "v": keys, "q": queries, "out": queries}
    bad = arrays | {n: np.where(s, arrays[n], np.nan) for n, s in shown.items()}
    with refusals(implementation):
        wanted = run(arrays, mask, implementation, key=KEY, **options(call))
        found = run(bad, mask, implementation, key=KEY, **options(call))
    for name, want in wanted.items():
        assert np.array_equal(found[name], want), name
        assert name == "lse" or np.isfinite(want).all(), name
