"""Many queries over few keys: blocks of queries with all keys at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import attend, explain
from crossattn.ops.kernels.block_sizes import BlockSizes
from tests.support.cases import Call, assert_close, drawn, inputs, kinds, run

# Two blocks of queries, the second ragged; one example at a time, and two at once.
CALLS = (Call(T=300, S=171, bias="HTS", softcap=1.3), Call(H=6, K=3, T=259, S=5))


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_equals_the_definition(x64, call):
    arrays = inputs(call)
    for kind, leaves in kinds(call).items():
        wanted = run(call, arrays, leaves, "reference")
        assert_close(run(call, arrays, leaves, "few_keys"), wanted, arrays, np.float64)
        if kind in ("everything", "keys"):
            found = run(call, arrays, leaves, "few_keys", np.float32)
            assert_close(found, wanted, arrays, np.float32, 10.0)
    assert_close(
        run(call, arrays, None, "few_keys"),
        run(call, arrays, None, "reference"),
        arrays,
        np.float64,
    )


def test_nothing_leaks():
    call = CALLS[1]
    arrays = inputs(call)
    for kind, leaves in kinds(call).items():
        visible = drawn(leaves)
        keys, queries = visible.any((1, 2)), visible.any(3).swapaxes(1, 2)
        bad = dict(arrays)
        for name in "kv":
            bad[name] = np.where(keys[..., None, None], arrays[name], np.nan)
        for name in ("q", "out"):
            bad[name] = np.where(queries[..., None], arrays[name], np.nan)
        wanted = run(call, arrays, leaves, "few_keys", np.float32)
        found = run(call, bad, leaves, "few_keys", np.float32)
        for name, want in wanted.items():
            assert np.array_equal(found[name], want), (kind, name)


def test_entropy_loss_adds_to_its_gradients(x64):
    """What a trace adds arrives in the backward rule, which sums onto it."""
    arrays = [jnp.asarray(inputs(CALLS[1])[n]) for n in "qkv"]

    def loss(implementation, q, k, v):
        out, trace = attend(q, k, v, implementation=implementation)
        return jnp.sum(jnp.sin(out)) + trace.entropy().sum()

    found, wanted = (
        jax.jit(jax.grad(lambda *x, i=i: loss(i, *x), (0, 1, 2)))(*arrays)
        for i in ("few_keys", "xla")
    )
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_chosen_for_many_queries_over_few_keys():
    q, k = (jax.ShapeDtypeStruct((1, n, 8, 64), "float32") for n in (65_536, 16))
    assert "cpu: few_keys (T > 128 and S <= 128)" in explain(q, k, k)
    assert BlockSizes.for_few_keys(1, 65_536, 16, 8, 8) == BlockSizes(1, 8, 256, 16)
    sizes = [(c.B, c.T, c.S, c.H, c.K) for c in CALLS]
    assert [BlockSizes.for_few_keys(*n) for n in sizes] == [
        BlockSizes(1, 3, 256, 171),
        BlockSizes(2, 3, 256, 5),
    ]
