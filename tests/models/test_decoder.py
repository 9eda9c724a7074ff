"""The decoder's variants: same parameters, different sight."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.decoder import VisionLanguageDecoder

B, T, P, V, F = 2, 5, 7, 11, 3
FUSIONS = ("blind", "mean-pool", "cross-attention", "oracle-attention")


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(0), 3)
    return {
        "tokens": jax.random.randint(keys[0], (B, T), 0, V),
        "images": jax.random.normal(keys[1], (B, P, F)),
        "visible": jnp.ones((B, P), bool),
        "truth": jax.random.bernoulli(keys[2], 0.3, (B, T, P)),
    }


@pytest.fixture(scope="module")
def params(batch):
    return jax.jit(decoder("cross-attention").init)(jax.random.key(1), **batch)


@pytest.fixture(scope="module")
def applied():
    return {name: jax.jit(decoder(name).apply) for name in FUSIONS}


def decoder(fusion):
    return VisionLanguageDecoder(vocabulary=V, width=6, layers=1, heads=2, fusion=fusion)


def test_all_variants_have_the_same_parameters(batch, params):
    for name in FUSIONS:
        other = jax.eval_shape(decoder(name).init, jax.random.key(1), **batch)
        assert jax.tree.map(jnp.shape, other) == jax.tree.map(jnp.shape, params)


def test_blind_never_sees_the_image(applied, batch, params):
    apply = applied["blind"]
    logits, _ = apply(params, **batch)
    other, _ = apply(params, **{**batch, "images": jnp.full((B, P, F), jnp.nan)})
    np.testing.assert_array_equal(logits, other)


@pytest.mark.parametrize("fusion", ["mean-pool", "cross-attention", "oracle-attention"])
def test_what_is_knocked_out_never_matters(applied, batch, params, fusion):
    visible = batch["visible"].at[:, 2:4].set(False)
    apply = applied[fusion]
    logits, _ = apply(params, **{**batch, "visible": visible})
    images = batch["images"].at[:, 2:4].add(9.0)
    changed, _ = apply(params, **{**batch, "images": images, "visible": visible})
    np.testing.assert_array_equal(logits, changed)
    seen, _ = apply(params, **{**batch, "images": images})
    assert not np.allclose(logits, seen)


def test_mean_pool_sees_the_mean_only(applied, batch, params):
    permuted = batch["images"][:, ::-1]
    # Positions of patches are part of what is averaged: silence them.
    silent = jax.tree.map(lambda p: p, params)
    silent["params"]["encoder"]["position"] = jnp.zeros((P, 6))
    pooled, _ = applied["mean-pool"](silent, **batch)
    again, _ = applied["mean-pool"](silent, **{**batch, "images": permuted})
    np.testing.assert_allclose(pooled, again, atol=1e-5)


def test_oracle_attends_to_the_truth_and_to_all_where_there_is_none(batch, params):
    truth = batch["truth"].at[:, 0].set(False)
    model = decoder("oracle-attention")
    _, weights = jax.jit(lambda p, b: model.apply(p, **b, observe=lambda t: t.rows()))(
        params, {**batch, "truth": truth}
    )
    seen = weights[0, :, 0] > 0
    somewhere = truth.any(-1, keepdims=True)
    np.testing.assert_array_equal(seen, truth | ~somewhere)
    assert seen[:, 0].all()


def test_words_ahead_never_matter(applied, batch, params):
    logits, _ = applied["cross-attention"](params, **batch)
    tokens = batch["tokens"].at[:, 3:].set(0)
    changed, _ = applied["cross-attention"](params, **{**batch, "tokens": tokens})
    np.testing.assert_allclose(logits[:, :3], changed[:, :3], atol=1e-6)
