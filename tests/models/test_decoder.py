"""The decoder's variants: same parameters, different attention."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.decoder import Fusion, VisionLanguageDecoder

I, B, T, P, V, F, L = 2, 4, 5, 7, 11, 3, 2  # noqa: E741 - I counts images
FUSIONS = get_args(Fusion)
SAME = ("blind", "mean-pool", "cross-attention", "oracle-attention")
SEEING = [name for name in FUSIONS if name != "blind"]
PROMPT = 3  # words before the first to predict


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(0), 4)
    return {
        "tokens": jax.random.randint(keys[0], (B, T), 0, V),
        "images": jax.random.normal(keys[1], (I, P, F)),
        "visible": jnp.ones((L, I, P), bool),
        "truth": jax.random.bernoulli(keys[2], 0.3, (B, T, P)),
        "prompt": jnp.broadcast_to(jnp.arange(T) < PROMPT, (B, T)),
        "boxes": jax.random.normal(keys[3], (I, 2, 3)).at[1, 1].set(0.0),
    }


@functools.cache
def decoder(fusion):
    return VisionLanguageDecoder(
        vocabulary=V,
        width=6,
        layers=L,
        heads=2,
        expansion=1,
        fusion=fusion,
        latents=3,
        contexts=("image", "boxes"),
    )


@functools.cache
def applied(fusion):
    """Logits and what every layer sees, of one program."""
    module = decoder(fusion)

    def look(attention):
        return attention.weights(), attention.mass()

    return jax.jit(lambda params, batch: module.apply(params, **batch, observe=look))


@pytest.fixture(scope="module")
def params(batch):
    return {name: parameters(name, batch) for name in FUSIONS}


def parameters(fusion, batch):
    """Random values in the shapes of the variant: all of them count, no zeros."""
    shapes = jax.eval_shape(decoder(fusion).init, jax.random.key(1), **batch)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)


def test_variants_of_the_same_decoder_have_the_same_parameters(params):
    for name in SAME:
        assert jax.tree.map(jnp.shape, params[name]) == jax.tree.map(jnp.shape, params[SAME[0]])


def test_blind_never_sees_the_image(batch, params):
    logits, _ = applied("blind")(params["blind"], batch)
    nothing = {**batch, "images": jnp.full((I, P, F), jnp.nan)}
    other, _ = applied("blind")(params["blind"], nothing)
    np.testing.assert_array_equal(logits, other)


@pytest.mark.parametrize("fusion", SEEING)
def test_what_is_knocked_out_never_matters(batch, params, fusion):
    visible = batch["visible"].at[:, :, 2:4].set(False)
    images = batch["images"].at[:, 2:4].add(9.0)
    apply = functools.partial(applied(fusion), params[fusion])
    logits, _ = apply({**batch, "visible": visible})
    changed, (rows, _) = apply({**batch, "images": images, "visible": visible})
    np.testing.assert_array_equal(logits, changed)
    seen, _ = apply({**batch, "images": images})
    assert not np.allclose(logits, seen)
    if rows.shape[-1] == P:
        assert not rows[..., 2:4].any()


@pytest.mark.parametrize("fusion", SEEING)
def test_a_knock_out_in_one_layer_is_in_that_layer(batch, params, fusion):
    apply = functools.partial(applied(fusion), params[fusion])
    _, (rows, mass) = apply(batch)
    _, (changed, _) = apply({**batch, "visible": batch["visible"].at[1, :, 2].set(False)})
    np.testing.assert_array_equal(rows[0], changed[0])
    if rows.shape[-1] == P:
        assert (rows[1, ..., 2] > 0).any()
        assert not changed[1, ..., 2].any()
        seen = rows.any(-1)
        np.testing.assert_allclose(rows.sum(-1)[seen], 1, atol=1e-5)
        # The boxes take its share of the weight, and words do in a single stream.
        assert (mass[seen] < 0.999).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_words_ahead_never_matter_nor_those_of_other_texts(batch, params, fusion):
    apply = functools.partial(applied(fusion), params[fusion])
    logits, _ = apply(batch)
    tokens = batch["tokens"]
    changed, _ = apply({**batch, "tokens": (tokens.at[:, PROMPT:].add(1)) % V})
    np.testing.assert_allclose(logits[:, :PROMPT], changed[:, :PROMPT], atol=1e-6)
    assert not np.allclose(logits[:, PROMPT:], changed[:, PROMPT:], atol=1e-3)
    changed, _ = apply({**batch, "tokens": tokens.at[1].add(1) % V})
    np.testing.assert_allclose(logits[0], changed[0], atol=1e-6)
    assert not np.allclose(logits[1], changed[1], atol=1e-3)


@pytest.mark.parametrize("fusion", SEEING)
def test_boxes_are_read_and_absent_objects_are_not(batch, params, fusion):
    apply = functools.partial(applied(fusion), params[fusion])
    logits, _ = apply(batch)
    moved, _ = apply({**batch, "boxes": batch["boxes"].at[0, 0].add(1.0)})
    texts = B // I
    np.testing.assert_allclose(logits[texts:], moved[texts:], atol=1e-6)
    assert not np.allclose(logits[:texts], moved[:texts], atol=1e-4)
    # Without the one object that is there the second image has patches only.
    gone = {**batch, "boxes": batch["boxes"].at[1].set(0.0)}
    assert not np.allclose(apply(gone)[0][texts:], logits[texts:], atol=1e-4)


def test_mean_pool_sees_the_mean_only(batch, params):
    # Positions of patches are part of what is averaged: silence them.
    silent = jax.tree.map(lambda p: p, params["mean-pool"])
    silent["params"]["encoder"]["position"] = jnp.zeros((P, 6))
    pooled, _ = applied("mean-pool")(silent, batch)
    again, _ = applied("mean-pool")(silent, {**batch, "images": batch["images"][:, ::-1]})
    np.testing.assert_allclose(pooled, again, atol=1e-5)


def test_oracle_attends_to_the_truth_and_to_all_where_there_is_none(batch, params):
    truth = batch["truth"].at[:, 0].set(False)
    given = {**batch, "truth": truth}
    _, (rows, _) = applied("oracle-attention")(params["oracle-attention"], given)
    seen = rows[0, :, 0].reshape(B, T, P) > 0
    somewhere = truth.any(-1, keepdims=True)
    np.testing.assert_array_equal(seen, truth | ~somewhere)
    assert seen[:, 0].all()


def test_a_resampler_hands_on_what_its_latents_saw(batch, params):
    visible = batch["visible"].at[:, 0, 1:].set(False)
    given = {**batch, "visible": visible, "boxes": jnp.zeros_like(batch["boxes"])}
    _, (rows, mass) = applied("resampler")(params["resampler"], given)
    np.testing.assert_allclose(rows[:, 0, ..., 0], 1.0, atol=1e-5)
    np.testing.assert_allclose(mass, 1.0, atol=1e-5)
