"""Masks of Flax's attention modules with ours inside: read as Flax does, or refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from crossattn import Mask
from crossattn.interop import flax as ours
from tests.support.flax_layers import PADDING, B, H, M, S, T, assert_equal, inputs, random, wave


@pytest.fixture(autouse=True)
def lenient():
    """Flax's own modules promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.usefixtures("x64")
def test_masks_of_flax_and_ours():
    both = [
        module(num_heads=H, param_dtype=jnp.float64)
        for module in (ours.MultiHeadDotProductAttention, linen.MultiHeadDotProductAttention)
    ]
    x, _ = inputs()
    params = random(both[0].init(jax.random.key(0), x))
    rng = np.random.default_rng(0)
    by_head = (rng.random((B, H, T, T)) < 0.5) | np.eye(T, dtype=bool)
    seen = jnp.arange(T)[None] < jnp.array([5, 3, 1])[:, None]
    causal = linen.make_causal_mask(seen)
    both_sides = linen.make_attention_mask(jnp.ones((B, T)), seen)
    same = {
        "heads": (by_head, by_head),
        "one for all": (by_head[:1, :1], by_head[:1, :1]),
        "two axes": (np.tril(by_head[0, 0]), np.tril(by_head[0, 0])),
        "floats": (causal, causal),
        "causal": (Mask.causal(), causal),
        "lengths": (Mask.lengths(key=jnp.array([5, 3, 1])), both_sides),
        "joined": (Mask.causal() & Mask.keys(seen), linen.combine_masks(causal, both_sides)),
    }

    @jax.jit
    def outputs(params, x):
        # A pure function of masks: nothing is left over from one call to the next.
        own, theirs = both
        return {
            name: (own.apply(params, x, mask=a), theirs.apply(params, x, mask=jnp.asarray(b)))
            for name, (a, b) in same.items()
        }

    for name, (found, wanted) in outputs(params, x).items():
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12, err_msg=name)


def masked(mask, *, queries=T, batch=B):
    """A layer that adds nothing to what is read, and what it reads."""
    x, context = inputs()
    layer = ours.MultiHeadDotProductAttention(num_heads=H, use_bias=False)
    x = jnp.broadcast_to(x[:1, :1], (batch, queries, M))
    context = jnp.broadcast_to(context[:1], (batch, *context.shape[1:]))
    params = layer.init(jax.random.key(0), x, context)
    call = lambda mask: layer.apply(params, x, context, mask=mask)
    return call, call(mask)


SEEN = PADDING[:, None, None]


@pytest.mark.parametrize(
    "numbers",
    [
        np.where(SEEN, 0.0, -1e9),
        jnp.where(SEEN, 0, -np.inf).astype(jnp.bfloat16),
        np.where(SEEN, 0, -10000),
        np.where(SEEN, np.nan, 0),
    ],
    ids=["float", "infinite", "integer", "nan"],
)
def test_a_mask_that_is_added_is_never_read_the_other_way_round(numbers):
    call, _ = masked(SEEN)
    with pytest.raises(ValueError, match=r"booleans .*, or 0 and 1, got .*: .* write mask >= 0"):
        call(numbers)
    # Its values are not known there: all is hidden.
    assert not jax.jit(call)(numbers).any()


@pytest.mark.parametrize("dtype", [bool, np.int32, np.float32, jnp.bfloat16])
def test_zeros_and_ones_are_booleans_of_any_dtype(dtype):
    call, wanted = masked(SEEN)
    for of in (call, jax.jit(call)):
        np.testing.assert_allclose(of(SEEN.astype(dtype)), wanted, atol=1e-6)


def test_a_mask_of_examples_is_not_one_of_queries_or_heads():
    with pytest.raises(
        ValueError, match=r"\(3, 7\) is read as \(T, S\), and T is 5: write mask\[:,"
    ):
        masked(PADDING)
    with pytest.raises(ValueError, match=r"\(T, S\), but the batch has 3 examples as well: write"):
        masked(PADDING, queries=B)
    pairs = np.repeat(PADDING[:, None], T, 1)
    with pytest.raises(
        ValueError, match=r"\(H, T, S\), and H is 2: write mask\[:, None\] if it is"
    ):
        masked(pairs)
    with pytest.raises(ValueError, match=r"batch has 2 examples as well: write mask\[None\] "):
        masked(pairs[:H], batch=H)
    q = jnp.ones((B, T, H, 4))
    with pytest.raises(ValueError, match=r"is read as \(T, S\), and T is 5"):
        ours.dot_product_attention(q, q, q, mask=np.ones((B, T), bool))
    masked(np.ones((T, S), bool))
    masked(pairs[:H])


def test_what_nobody_sees_reaches_nothing():
    x, context = inputs()
    layer = ours.MultiHeadDotProductAttention(num_heads=H)
    params = random(layer.init(jax.random.key(0), x, context))
    seen = jnp.asarray(PADDING).at[1].set(False)
    bad = jnp.where(seen[..., None], context, jnp.nan)

    @jax.jit
    def gradients(params, context):
        def loss(params):
            mask = seen[:, None, None]
            y, trace = layer.apply(params, x, context, mask=mask, return_trace=True)
            return wave(y), (y, trace.weights())

        return jax.grad(loss, has_aux=True)(params)

    found, (y, weights) = gradients(params, bad)
    assert_equal((found, (y, weights)), gradients(params, context * seen[..., None]), 0)
    bias = params["params"]["out"]["bias"]
    np.testing.assert_array_equal(y[1], jnp.broadcast_to(bias, (T, M)))
    assert float(weights[1].max()) == 0
    np.testing.assert_allclose(weights.sum(3)[jnp.array([0, 2])], 1, atol=1e-6)
