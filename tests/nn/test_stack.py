"""The scanned stack: equal to a loop, several texts per context, observations per layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn import Block, Stack

B, T, S, M, H, L = 3, 5, 7, 6, 2, 2


@pytest.fixture(scope="module")
def stack():
    module = Stack(layers=L, width=M, heads=H)
    x, context = jax.random.normal(jax.random.key(0), (2, B, S, M))
    params = jax.jit(module.init)(jax.random.key(1), x[:, :T], context)
    return module, params, x[:, :T], context


def test_scan_equals_loop(stack):
    module, params, x, context = stack
    mask = Mask.lengths(key=jnp.array([S, 3, 0]))
    y, entropy = module.apply(
        params, x, context, self_mask=Mask.causal(0), mask=mask, observe=lambda t: t.entropy()
    )
    block = jax.jit(Block(M, H).apply)
    for layer in range(L):
        own = jax.tree.map(lambda p, layer=layer: p[layer], params["params"]["blocks"])
        x, trace = block({"params": own}, x, context, self_mask=Mask.causal(0), mask=mask)
        np.testing.assert_allclose(entropy[layer], trace.entropy(), atol=1e-6)
    np.testing.assert_allclose(y, x, atol=1e-5)


def test_texts_of_one_context_equal_repeated_contexts(stack):
    module, params, x, context = stack
    texts = jnp.concatenate([x, x + 1.0], axis=0)[jnp.array([0, 3, 1, 4, 2, 5])]
    repeated = jnp.repeat(context, 2, axis=0)
    shared, _ = module.apply(params, texts, context, self_mask=Mask.causal(0))
    single, _ = module.apply(params, texts, repeated, self_mask=Mask.causal(0))
    np.testing.assert_allclose(shared, single, atol=1e-5)


def test_an_unused_trace_costs_nothing(stack):
    module, params, x, context = stack

    def cost(observe):
        def loss(params):
            return module.apply(params, x, context, observe=observe)[0].sum()

        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        return compiled.cost_analysis()["flops"], compiled.memory_analysis().temp_size_in_bytes

    # Whoever drops what was observed pays as little as whoever observes nothing.
    assert cost(lambda trace: trace) == cost(lambda trace: None)
    assert cost(lambda trace: trace.weights()) == cost(lambda trace: None)


def test_a_layer_sees_what_it_may_and_reads_a_context_of_its_own(stack):
    module, params, x, context = stack
    seen = jnp.ones((L, B, S), bool).at[0, :, 2:].set(False).at[1, 1].set(False)
    each = jnp.stack([context, context + 1.0])
    run = jax.jit(
        lambda seen, contexts: module.apply(
            params,
            x,
            None,
            contexts=contexts,
            visible=seen,
            others=jnp.arange(L),
            observe=lambda trace, layer: (trace.weights(), layer),
        )
    )
    y, (weights, layers) = run(seen, each)
    np.testing.assert_array_equal(layers, np.arange(L))
    np.testing.assert_array_equal(weights.any((2, 3)), seen)
    block = jax.jit(Block(M, H).apply)
    for layer in range(L):
        own = jax.tree.map(lambda p, layer=layer: p[layer], params["params"]["blocks"])
        x, _ = block({"params": own}, x, each[layer], mask=Mask.keys(seen[layer]))
    np.testing.assert_allclose(y, x, atol=1e-5)
    # Hidden in one layer, NaN in the context of that layer is not seen.
    again, _ = run(seen, each.at[0, :, 3].set(jnp.nan))
    np.testing.assert_array_equal(y, again)
