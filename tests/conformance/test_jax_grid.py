"""The parameter grids of jax's own tests of dot_product_attention (jax 0.10, tests/nn_test.py).

Dtypes, head groups, vmap, every combination of masks that is tried there, the bias's gradient; with
T != S beside T == S, in float32 too, and against float64 instead of another implementation.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from tests.support.calling import NAMED, assert_judged, refusals, run
from tests.support.definition import judge
from tests.support.grids import diagonal

B, H, D = 2, 4, 32
SQUARE, WIDE, TALL = (128, 128), (97, 131), (131, 97)
ALL = np.ones((1, 1, 1, 1), bool)
DTYPES = ("float32", "bfloat16", "float16")
GROUPS = (1, 2, 4)
# Every two of dtype, group, vmap and shape meet in every way.
GRID = [
    (dtype, GROUPS[(d + c) % 3], mapped, shape)
    for d, dtype in enumerate(DTYPES)
    for c, (mapped, shape) in enumerate(itertools.product((False, True), (SQUARE, WIDE)))
]
MODES = (
    ("bias",),
    ("causal",),
    ("padding",),
    ("custom",),
    ("causal", "padding"),
    ("custom", "padding"),
    ("bias", "causal"),
    ("causal", "sliding window"),
    ("sliding window",),
)


def drawn(shapes, dtype, seed=0):
    """Normal values that `dtype` can hold, in float64."""
    rng = np.random.default_rng(seed)
    values = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    return {name: x.astype(jnp.dtype(dtype)).astype(np.float64) for name, x in values.items()}


def inputs(T, S, K, dtype, bias=None, outer=()):
    shapes = {
        "q": (*outer, B, T, H, D),
        "k": (*outer, B, S, K, D),
        "v": (*outer, B, S, K, D),
        "out": (*outer, B, T, H, D),
    }
    return drawn(shapes if bias is None else shapes | {"bias": bias}, dtype)


def unmapped(arrays, mapped):
    if not mapped:
        return [arrays]
    return [{name: x[n] for name, x in arrays.items()} for n in range(3)]


@pytest.mark.parametrize(("case", "implementation"), diagonal(GRID, NAMED), ids=str)
def test_dtypes_groups_and_vmap(case, implementation):
    dtype, group, mapped, shape = case
    arrays = inputs(*shape, H // group, dtype, outer=(3,) if mapped else ())
    with refusals(implementation):
        found = run(arrays, Mask(), implementation, jnp.dtype(dtype), mapped=mapped)
    assert all(found[n].dtype == dtype for n in ("out", "dq", "dk", "dv"))
    for each, one in zip(unmapped(found, mapped), unmapped(arrays, mapped), strict=True):
        assert_judged(each, one, ALL, jnp.dtype(dtype))


@functools.cache
def masked(mode, shape, dtype):
    """Inputs, the terms of our mask, the same visibility in numpy, and the arguments of jax.nn."""
    T, S = shape
    arrays = inputs(T, S, H, dtype, bias=(1, H, T, S) if "bias" in mode else None)
    terms, visible, theirs = {}, np.ones((B, 1, T, S), bool), {}
    i, j = np.arange(T)[:, None], np.arange(S)
    if "causal" in mode:  # the first query sees the first key, whatever T and S are
        terms["causal"], visible = (np.int32(0),), visible & (j <= i)
        theirs["is_causal"] = True
    if "padding" in mode:
        queries, keys = np.array([T // 2, T // 4], np.int32), np.array([S // 4, S // 2], np.int32)
        terms["lengths"] = queries, keys
        real = (i < queries.reshape(B, 1, 1, 1)) & (j < keys.reshape(B, 1, 1, 1))
        visible = visible & real
        theirs |= {"query_seq_lengths": queries, "key_value_seq_lengths": keys}
    if "custom" in mode:  # a lower triangle, written out
        lower = np.tril(np.ones((T, S), bool))[None, None]
        terms["dense"], visible = (lower,), visible & lower
        theirs["mask"] = lower
    if "sliding window" in mode:
        left, right = (3, 2) if "causal" in mode else (3, 0)
        terms["window"] = np.int32(left), np.int32(right), np.int32(0)
        visible = visible & (j >= i - left) & (j <= i + right)
        theirs["local_window_size"] = (left, right)
        # jax 0.7.2 forgets a window where nothing else hides.
        theirs.setdefault("mask", np.ones((1, 1, T, S), bool))
    return arrays, terms, visible, theirs


def mask_of(terms):
    return functools.reduce(
        lambda mask, term: mask & getattr(Mask, term[0])(*term[1]), terms.items(), Mask()
    )


def test_masks_are_of_all_shapes():
    """In a TALL window the last queries see no key; elsewhere only padding is empty."""
    empty = [mode for mode in MODES if not masked(mode, TALL, "float32")[2].any(3).all()]
    assert ("sliding window",) in empty
    assert ("causal",) not in empty


@pytest.mark.parametrize(("mode", "implementation"), diagonal(MODES, NAMED), ids=str)
def test_masks(mode, implementation):
    """T != S, and written as users write it: the terms that there are and no more."""
    arrays, terms, visible, _ = masked(mode, TALL, "bfloat16")
    with refusals(implementation):
        found = run(arrays, mask_of(terms), implementation, jnp.bfloat16)
    assert_judged(found, arrays, visible, jnp.bfloat16)


@pytest.mark.parametrize("implementation", NAMED)
@pytest.mark.parametrize("mode", MODES, ids=" and ".join)
def test_masks_of_squares(mode, implementation):
    """T == S, with a term of every kind, most of which hide nothing: one compilation for all."""
    arrays, terms, visible, _ = masked(mode, SQUARE, "bfloat16")
    T, S = SQUARE
    every = {
        "causal": (np.int32(S),),
        "lengths": (np.full(B, T, np.int32), np.full(B, S, np.int32)),
        "dense": (np.ones((1, 1, T, S), bool),),
        "window": (np.int32(T), np.int32(S), np.int32(0)),
    }
    arrays = {"bias": np.zeros((1, H, T, S))} | arrays
    with refusals(implementation):
        found = run(arrays, mask_of(every | terms), implementation, jnp.bfloat16)
    assert_judged(found, arrays, visible, jnp.bfloat16)


@pytest.mark.parametrize("shape", [SQUARE, TALL], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=" and ".join)
def test_the_judge_agrees_with_jax_where_rows_have_keys(mode, shape):
    """So our words for their arguments are right. Rows without keys are theirs to get wrong."""
    arrays, _, visible, theirs = masked(mode, shape, "float32")
    given = {n: jnp.asarray(x, jnp.float32) for n, x in arrays.items()}
    bias = given.get("bias")
    attend = jax.jit(functools.partial(jax.nn.dot_product_attention, **theirs))
    out = attend(given["q"], given["k"], given["v"], bias=bias)
    wanted = judge(arrays, visible)["out"]
    full = np.broadcast_to(visible.any(3).swapaxes(1, 2), wanted.shape[:3])
    assert full.any()
    np.testing.assert_allclose(np.asarray(out)[full], wanted[full], atol=1e-5)


@pytest.mark.parametrize("implementation", NAMED)
@pytest.mark.parametrize(("batch", "mapped"), [(1, True), (16, False)])
def test_gradient_of_a_bias_per_example(batch, mapped, implementation):
    """q = k = v, a bias (B, H, S, S) and a mask (1, 1, 1, S) that hides nothing."""
    S = 31
    x = {"x": (batch, S, H, D), "bias": (batch, H, S, S), "out": (batch, S, H, D)}
    if mapped:
        x |= {"bias": (1, H, S, S)}
        x = {n: (3, *shape) if n != "bias" else shape for n, shape in x.items()}
    arrays = drawn(x, "float32")
    arrays = dict.fromkeys("qkv", arrays["x"]) | {n: arrays[n] for n in ("bias", "out")}
    mask = Mask.dense(np.ones((1, 1, 1, S), bool))
    with refusals(implementation):
        found = run(arrays, mask, implementation, mapped=mapped)
    bias, dbias = arrays.pop("bias"), found.pop("dbias")
    each = [one | {"bias": bias} for one in unmapped(arrays, mapped)]
    biases = [judge(one, ALL)["dbias"] for one in each]
    np.testing.assert_allclose(dbias, sum(biases), atol=1e-5 * np.abs(biases).max())
    for f, one in zip(unmapped(found, mapped), each, strict=True):
        assert_judged(f, one, ALL, np.float32)
