"""Modules drop weights of attention where they are given a key, each call and layer its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.nn import CrossAttention, ExtraKeys, Logits
from crossattn.nn.module import Module
from crossattn.nn.scan import Remat, scan_layers

B, T, S, M, H = 2, 3, 5, 8, 2
KEY = jax.random.key(7)


@pytest.fixture(scope="module")
def streams():
    return tuple(jax.random.normal(jax.random.key(n), (B, n, M)) for n in (T, S))


MODULES = {
    "plain": {},
    "spare keys": {"extra_keys": ExtraKeys(bias_kv=True, zero_attn=True, sink=True, registers=2)},
    "competing queries": {"logits": Logits(competition="queries")},
    "talking heads": {"logits": Logits(talking=True)},
}


FAST = ("spare keys",)


@pytest.mark.parametrize(
    "name",
    [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in MODULES],
)
def test_attention_drops_weights_where_it_is_given_a_key(name, streams):
    """Over many seeds at once the mean is what comes out without dropout: all behind is linear."""
    plain, n = CrossAttention(M, H, **MODULES[name]), 1000
    module = plain.clone(dropout=0.3)

    @jax.jit
    def run(keys):
        params = plain.init(jax.random.key(1), *streams)
        params = jax.tree.map(lambda p: p + 0.1, params)
        drop = lambda key: module.apply(params, *streams, rngs={"dropout": key})[0]
        y, trace = module.apply(params, *streams, rngs={"dropout": keys[0]})
        results = [one.apply(params, *streams) for one in (plain, module)]
        return jax.vmap(drop)(keys), y, trace, results

    drawn, one, trace, ((wanted, before), (still, _)) = run(jax.random.split(KEY, n))
    np.testing.assert_array_equal(still, wanted)
    np.testing.assert_array_equal(trace.lse, before.lse)
    np.testing.assert_allclose(drawn[0], one, atol=1e-6)
    assert np.abs(one - wanted).max() > 1e-2
    z = (drawn.mean(0) - wanted) / (drawn.std(0) / np.sqrt(n))
    assert np.abs(z).max() < 4.5


def test_every_call_draws_for_itself():
    module = CrossAttention(M, H, dropout=0.5)
    both = lambda module: [module.weight_dropout()[1] for _ in range(2)]
    one, other = module.apply({}, method=both, rngs={"dropout": KEY})
    assert not np.array_equal(*map(jax.random.key_data, (one, other)))
    assert module.apply({}, method="weight_dropout") is None


class Layers(Module):
    """Layers that all read the same streams, as they are."""

    layer: CrossAttention
    remat: Remat

    def __call__(self, x, context):
        step = lambda layer, carry, x, context: (carry, layer(x, context)[0])
        return scan_layers(step, self.layer, (), (x, context), layers=3, remat=self.remat)[1]


def test_layers_draw_for_themselves_and_the_same_when_they_are_computed_again(streams):
    """Layers of the same parameters differ; gradients of what is computed again do not."""
    attention = CrossAttention(M, H, dropout=0.5)
    params = CrossAttention(M, H).init(jax.random.key(1), *streams)["params"]
    params = {"params": {"layer": jax.tree.map(lambda p: jnp.stack([p] * 3), params)}}

    def loss(params, key, remat):
        y = Layers(attention, remat).apply(params, *streams, rngs={"dropout": key})
        return jnp.sin(y).sum(), y

    run = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
    (_, kept), wanted = run(params, KEY, None)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(kept[one] - kept[other]).max() > 1e-2
    (_, again), found = run(params, KEY, "everything")
    same = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    jax.tree.map(same, (again, found), (kept, wanted))
    (_, other), _ = run(params, jax.random.key(8), None)
    assert np.abs(other - kept).max() > 1e-2
