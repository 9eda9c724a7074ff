"""CrossAttention: against Flax's own module, projected, masked, empty."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from crossattn import Mask
from crossattn.nn import CrossAttention

B, T, S, M, N, H = 2, 5, 7, 12, 11, 3


@pytest.fixture(scope="module")
def inputs():
    x, context = jax.random.normal(jax.random.key(0), (2, B, S, M))
    return x[:, :T], context[..., :N]


@pytest.fixture(scope="module")
def block(inputs):
    module = CrossAttention(width=M, heads=H)
    return module, jax.jit(module.init)(jax.random.key(1), *inputs)


def as_flax(params):
    """Our kernels (M, H D) in the layout of flax.linen.MultiHeadDotProductAttention."""
    ours = params["params"]
    split = {
        name: {
            "kernel": ours[name]["kernel"].reshape(-1, H, M // H),
            "bias": ours[name]["bias"].reshape(H, M // H),
        }
        for name in ("query", "key", "value")
    }
    out = {"kernel": ours["out"]["kernel"].reshape(H, M // H, M), "bias": ours["out"]["bias"]}
    return {"params": {**split, "out": out}}


def test_equals_flax_linen_with_gradients(block, inputs):
    module, params = block
    x, context = inputs
    params = jax.tree.map(lambda p: p + 0.1, params)
    peer = nn.MultiHeadDotProductAttention(num_heads=H, qkv_features=M)
    lengths = jnp.array([S, 4])
    mask = Mask.lengths(key=lengths)

    def ours(params, x, context):
        return jnp.sin(module.apply(params, x, context, mask=mask)[0]).sum()

    def theirs(params, x, context):
        dense = mask.dense_array(B, T, S)
        return jnp.sin(peer.apply(as_flax(params), x, context, mask=dense)).sum()

    for got, wanted in zip(
        jax.tree.leaves(jax.jit(jax.grad(ours, (0, 1, 2)))(params, x, context)),
        jax.tree.leaves(jax.jit(jax.grad(theirs, (0, 1, 2)))(params, x, context)),
        strict=True,
    ):
        np.testing.assert_allclose(got, wanted, atol=2e-5)


def test_projected_context_equals_context(block, inputs):
    module, params = block
    x, context = inputs
    mask = Mask.lengths(key=jnp.array([3, S]))
    whole, _ = module.apply(params, x, context, mask=mask)
    projected = module.apply(params, context, mask=mask, method="project")
    assert projected.keys.shape == (B, H, S, M // H)
    steps = [module.apply(params, x[:, t : t + 1], projected)[0] for t in range(T)]
    np.testing.assert_allclose(jnp.concatenate(steps, axis=1), whole, atol=1e-6)


def test_context_is_required(block, inputs):
    module, params = block
    # The checker of the tests speaks before our own message does; both are a TypeError.
    with pytest.raises(TypeError, match="context"):
        module.apply(params, inputs[0], None)
    with pytest.raises(TypeError, match="context"):
        module.apply(params, inputs[0])


def test_empty_context_leaves_the_output_bias(block, inputs):
    module, params = block
    params = jax.tree.map(lambda p: p + 0.1, params)
    x, context = inputs
    empty = Mask.lengths(key=jnp.array([0, S]))

    def out(context):
        return module.apply(params, x, context, mask=empty)[0]

    bias = params["params"]["out"]["bias"]
    np.testing.assert_array_equal(out(context)[0], jnp.broadcast_to(bias, (T, M)))
    np.testing.assert_array_equal(out(context.at[0].set(jnp.nan))[0], out(context)[0])
    gradient = jax.grad(lambda c: out(c).sum())(context)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_grouped_query_heads_and_head_size(inputs):
    module = CrossAttention(width=M, heads=4, key_value_heads=2, head_size=5, use_bias=False)
    (y, trace), params = jax.jit(module.init_with_output)(jax.random.key(0), *inputs)
    assert y.shape == (B, T, M)
    assert trace.weights().shape == (B, 4, T, S)
    shapes = jax.tree.map(jnp.shape, params["params"])
    assert shapes == {
        "query": {"kernel": (M, 20)},
        "key": {"kernel": (N, 10)},
        "value": {"kernel": (N, 10)},
        "out": {"kernel": (20, M)},
    }


def test_heads_must_divide_the_width(inputs):
    with pytest.raises(ValueError, match="width 12 is not a multiple of heads 5"):
        CrossAttention(width=M, heads=5).init(jax.random.key(0), *inputs)


def test_causal_self_attention_never_looks_ahead(inputs):
    x, _ = inputs
    module = CrossAttention(width=M, heads=H)
    params = module.init(jax.random.key(0), x, x)
    out = lambda x: module.apply(params, x, x, mask=Mask.causal(0))[0][0]
    jacobian = jax.jit(jax.jacrev(out))(x)[:, :, 0]
    seen = jnp.abs(jacobian).sum(axis=(1, 3)) > 0  # output position, input position
    np.testing.assert_array_equal(seen, np.tril(np.ones((T, T), bool)))


def test_the_trace_of_an_ensemble_has_statistics():
    ensemble = nn.vmap(
        CrossAttention,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=None,
        axis_size=3,
    )(width=4, heads=2)
    x, context = jnp.ones((2, 3, 4)), jnp.ones((2, 5, 4))

    def run():
        (y, trace), _ = ensemble.init_with_output(jax.random.key(0), x, context)
        return y, trace.entropy(), trace.peak(), trace.weights(), trace.expect(context)

    y, entropy, (weight, _), rows, expected = jax.jit(run)()
    assert y.shape == (3, 2, 3, 4)
    assert entropy.shape == weight.shape == (3, 2, 2, 3)
    np.testing.assert_allclose(entropy, np.log(5), rtol=1e-5)
    assert rows.shape == (3, 2, 2, 3, 5)
    np.testing.assert_allclose(expected, 1, rtol=1e-5)
