"""ONNX's backend cases of Attention: forward, and the scores and weights that it may return."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.calling import EVERY, assert_judged, forward, refusals
from tests.support.cases import TOLERANCE
from tests.support.grids import diagonal
from tests.support.onnx_attention import cases, judged, problem

HALF_BITS = {"float16": 11, "bfloat16": 8}


def test_there_are_as_many_cases_as_we_say():
    assert len(cases()) == 93


@pytest.mark.parametrize("name", cases())
def test_the_judge_agrees_with_what_is_stored(name):
    """To ONNX's own tolerance; what was computed in half precision to one unit of the largest."""
    p = problem(name)
    for output, wanted in judged(p).items():
        stored = p.stored[output].astype(np.float64)
        if p.stored[output].dtype == np.float32:
            np.testing.assert_allclose(wanted, stored, rtol=1e-3, atol=1e-7)
        else:
            _, exponent = np.frexp(np.abs(stored).max())
            unit = np.ldexp(1.0, exponent - HALF_BITS[p.stored[output].dtype.name])
            rounded = wanted.astype(p.stored[output].dtype).astype(np.float64)
            assert (np.abs(rounded - stored) <= unit).all()


rows_of = jax.jit(lambda trace: trace.weights())


@pytest.mark.parametrize(("name", "implementation"), diagonal(cases(), EVERY), ids=str)
def test_onnx(name, implementation):
    p = problem(name)
    arrays = {n: jnp.asarray(x) for n, x in p.arrays.items()}
    options = {"implementation": implementation, "scale": p.scale, "softcap": p.softcap}
    with refusals(implementation):
        out, trace = forward(arrays, p.mask, **options)
    found = {"out": np.asarray(out), "lse": np.asarray(trace.lse)}
    dtype = p.arrays["q"].dtype
    assert found["out"].dtype == dtype
    assert_judged(found, p.arrays, p.visible, dtype, scale=p.scale, softcap=p.softcap)
    if "qk_matmul_output" in p.stored:
        scores = scores_of(p, np.asarray(rows_of(trace)), found["lse"])
        wanted = judged(p)["qk_matmul_output"]
        hidden = np.isneginf(wanted)
        assert np.array_equal(np.isneginf(scores), hidden)
        # Both are given in float32 whatever the inputs are.
        allowed = TOLERANCE["float32"]["lse"]
        np.testing.assert_allclose(scores[~hidden], wanted[~hidden], rtol=0, atol=allowed)


def scores_of(p, rows, lse):
    """What the mode asks for, from the weights and the lse, which is what we show of the scores."""
    rows, lse = rows.astype(np.float64), lse.astype(np.float64)
    if p.mode == 3:
        return rows
    with np.errstate(divide="ignore"):
        scores = np.log(rows) + lse[..., None]
    if p.mode == 2:
        return scores
    # Neither a mask nor a cap that cannot be undone stands between these and the raw scores.
    assert p.visible.all()
    assert p.mode == 1 or p.softcap is None
    return scores - p.arrays.get("bias", np.zeros(())).astype(np.float64)
