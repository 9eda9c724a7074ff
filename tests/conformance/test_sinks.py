"""Sinks: one more key for each head, whose score is the sink and whose value is 0.

(Xiao et al. 2024, "Efficient streaming language models with attention sinks"; as a learned logit
for each head: OpenAI 2025, "gpt-oss".)
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calling import assert_judged, forward, refusals, run
from cases import IMPLEMENTATIONS, Call, inputs
from definition import weights
from situations import TERMS, build, neutral, visible_by_definition

from crossattn import Mask

CALLS = (
    Call(),
    Call(H=6, K=3, bias="BHTS", softcap=1.3, T=7, S=5),
    Call(H=2, K=1, bias="HS", scale=0.7),
)


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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("call", CALLS[:2], ids=str)
def test_definition(x64, call, dtype, implementation):
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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_query_leaks(implementation):
    """NaN in what nobody sees stays there, though every row now has a normaliser."""
    call = CALLS[1]
    arrays, mask, visible = given(call)
    arrays["out"] = np.where(visible.any(3).swapaxes(1, 2)[..., None], arrays["out"], 0)
    keys = visible.any((1, 2))[..., None, None]
    bad = arrays | {n: np.where(keys, arrays[n], np.nan) for n in "kv"}
    bad["q"] = np.where(visible.any(3).swapaxes(1, 2)[..., None], arrays["q"], np.nan)
    assert np.isnan(bad["k"]).any()
    with refusals(implementation):
        wanted = run(arrays, mask, implementation, **options(call))
        found = run(bad, mask, implementation, **options(call))
    for name, want in wanted.items():
        assert np.isfinite(want).all(), name
        assert np.array_equal(found[name], want), name


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("call", CALLS[:2], ids=str)
def test_the_trace_shows_what_the_sink_left(call, implementation):
    arrays, mask, visible = given(call)
    arrays = {n: jnp.asarray(arrays[n], jnp.float32) for n in arrays if n not in ("out", "lse")}
    with refusals(implementation):
        _, trace = forward(arrays, mask, implementation=implementation, **options(call))
    w = weights({n: np.asarray(x) for n, x in arrays.items()}, visible, **options(call))
    rows = np.asarray(jax.jit(lambda t: t.rows())(trace))
    np.testing.assert_allclose(rows, w["weights"], atol=1e-6)
    np.testing.assert_allclose(rows.sum(3) + w["sunk"], 1, atol=1e-5)
    assert (rows.sum(3) < 1).all()
    assert np.array_equal(trace.valid, visible.any(3))
    weight, index = jax.jit(lambda t: t.peak())(trace)
    np.testing.assert_allclose(weight, w["weights"].max(3), atol=1e-6)
    assert np.array_equal(index, w["weights"].argmax(3))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_far_sinks(implementation):
    """A sink of -inf is none; a huge one takes everything; neither gives NaN."""
    call = CALLS[0]
    arrays, mask, _ = given(call)
    with refusals(implementation):
        none = run({n: x for n, x in arrays.items() if n != "sinks"}, mask, implementation)
        low = run(arrays | {"sinks": np.full(call.H, -np.inf)}, mask, implementation)
        high = run(arrays | {"sinks": np.full(call.H, 1e4)}, mask, implementation)
    for name, want in none.items():
        np.testing.assert_allclose(low[name], want, atol=1e-6, err_msg=name)
    assert not low["dsinks"].any()
    assert all(np.isfinite(x).all() for x in high.values())
    assert not high["out"].any()
    assert not high["dv"].any()
    np.testing.assert_allclose(high["lse"], 1e4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_no_keys_at_all(x64, implementation):
    """S = 0, and a mask that hides everything: the sink is all there is."""
    for call, mask in (
        (Call(S=0, T=3), Mask()),
        (Call(), Mask.lengths(key=np.zeros(2, np.int32))),
    ):
        arrays = inputs(call) | {"sinks": np.linspace(-1.0, 1.0, call.H)}
        with refusals(implementation):
            found = run(arrays, mask, implementation, np.float64)
        assert_judged(found, arrays, np.zeros(call.sizes, bool), np.float64)
        np.testing.assert_allclose(found["dsinks"], arrays["lse"].sum((0, 2)))
