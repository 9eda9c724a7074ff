"""Dropout of weights (Srivastava et al. 2014): the definition, with the weights that a key drops.

Which those are, and how they are drawn: tests/ops/test_dropout.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.ops.dropout import Dropout, kept
from tests.support.calling import EVERY, assert_judged, refusals, run
from tests.support.cases import Call, inputs
from tests.support.situations import TERMS, build, neutral, visible_by_definition

RATE, KEY = 0.3, jax.random.key(7)
CALL = Call(H=6, K=3, T=7, S=17, bias="HTS", softcap=1.3)
OPTIONS = {"scale": CALL.scale, "softcap": CALL.softcap}
for_implementations = pytest.mark.parametrize("implementation", EVERY)


@pytest.fixture
def given(x64):
    """Inputs with sinks, a mask with rows without keys in it, and its booleans."""
    rng, (B, _, T, S) = np.random.default_rng(8), CALL.sizes
    leaves = neutral(CALL) | {
        "query_lengths": np.array([T - 1, T], np.int32),
        "key_lengths": np.array([S, S - 3], np.int32),
        "causal": np.array([S, -1], np.int32),
        "keys": rng.random((B, S)) < 0.9,
    }
    arrays = inputs(CALL) | {"sinks": np.linspace(-1.0, 1.0, CALL.H)}
    return arrays, build(leaves, tuple(TERMS)), visible_by_definition(leaves)


def call(arrays, mask, implementation, key=KEY):
    with refusals(implementation):
        return run(arrays, mask, implementation, np.float64, key=key, rate=RATE, **OPTIONS)


@for_implementations
def test_outputs_and_gradients_are_the_definition(given, implementation):
    """With the cotangent of the lse, which dropout leaves alone."""
    arrays, mask, visible = given
    for key in (KEY, jax.random.key(8)):
        found = call(arrays, mask, implementation, key)
        factor = kept(Dropout.of((RATE, key), CALL.B, CALL.H), CALL.sizes, jnp.float64)
        judged = {"kept": np.asarray(factor), **OPTIONS}
        assert_judged(found, arrays, visible, np.float64, **judged)


@for_implementations
def test_a_key_says_which(given, implementation):
    arrays, mask, _ = given
    keys = KEY, jax.random.key(7), jax.random.key(8)
    first, again, other = (call(arrays, mask, implementation, key) for key in keys)
    for name, x in first.items():
        assert np.array_equal(again[name], x), name
        assert np.array_equal(other[name], x) == (name == "lse"), name


@for_implementations
def test_what_nobody_sees_is_not_dropped_in(given, implementation):
    """Bit for bit: NaN where nobody looks, with dropout."""
    arrays, mask, visible = given
    keys = visible.any((1, 2))[..., None, None]
    queries = visible.any(3).swapaxes(1, 2)[..., None]
    shown = {"k": keys, "v": keys, "q": queries, "out": queries}
    bad = arrays | {n: np.where(s, arrays[n], np.nan) for n, s in shown.items()}
    wanted, found = (call(x, mask, implementation) for x in (arrays, bad))
    for name, want in wanted.items():
        assert np.array_equal(found[name], want), name
        assert name == "lse" or np.isfinite(want).all(), name
