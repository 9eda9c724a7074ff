"""Features of images and of texts: what each has read, and what has not changed without them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.vision_language import VisionLanguageDecoder
from tests.models.test_vision_language import filled

I, B, T, P, V, F, D = 2, 4, 5, 7, 11, 3, 6  # noqa: E741 - I counts images
LEAN = {"width": 8, "heads": 2, "latents": 3, "layers": 2, "embedding": D}
DESIGNS = {
    "dual encoder": {"context_view": "none"},
    "coca": {"preset": "coca_decoder"},
}
LAST = jnp.array([3, 1, 2, 3])


@pytest.fixture(scope="module")
def batch():
    keys = jax.random.split(jax.random.key(0), 2)
    return {
        "tokens": jax.random.randint(keys[0], (B, T), 0, V),
        "images": jax.random.normal(keys[1], (I, P, F)),
        "truth": jnp.zeros((B, T, P), bool),
        "prompt": jnp.broadcast_to(jnp.arange(T) < 2, (B, T)),
        "visible": jnp.ones((I, P), bool),
    }


SOME = [pytest.param("dual encoder", marks=pytest.mark.slow), "coca"]


@pytest.fixture(scope="module", params=SOME)
def model(request, batch):
    """(name, parameters in random values, features of changed batches)."""
    config = VisionLanguageConfig(**LEAN | DESIGNS[request.param])
    module = VisionLanguageDecoder(V, config)
    params = filled(module, batch)
    program = jax.jit(functools.partial(module.apply, last=LAST))
    return request.param, params, lambda p=params, **changes: program(p, **batch | changes)


def test_features_have_length_1_and_know_one_side(model, batch):
    _, _, run = model
    found = run()[2]
    assert (found.image.shape, found.text.shape) == ((I, D), (B, D))
    for side in (found.image, found.text):
        np.testing.assert_allclose(jnp.linalg.norm(side, axis=-1), 1, rtol=1e-6)
    other = run(images=batch["images"] + 1)[2]
    np.testing.assert_array_equal(other.text, found.text)
    assert not np.allclose(other.image, found.image, atol=1e-3)
    # Words up to the last one count, of their own text, and those behind it do not.
    behind = jnp.arange(T)[None] > LAST[:, None]
    other = run(tokens=jnp.where(behind, 0, batch["tokens"]))[2]
    np.testing.assert_allclose(other.text, found.text, atol=1e-6)
    other = run(tokens=batch["tokens"].at[0, LAST[0]].add(1) % V)[2]
    np.testing.assert_array_equal(other.image, found.image)
    np.testing.assert_allclose(other.text[1:], found.text[1:], atol=1e-6)
    assert not np.allclose(other.text[0], found.text[0], atol=1e-3)
    # What is hidden is not read, not even NaN.
    seen = batch["visible"].at[:, 2:4].set(False)
    hidden = run(visible=seen)[2].image
    unread = run(visible=seen, images=batch["images"].at[:, 2:4].set(jnp.nan))[2].image
    np.testing.assert_array_equal(hidden, unread)
    assert not np.allclose(hidden, found.image, atol=1e-3)


def test_matching_reads_both_sides(model, batch):
    name, _, run = model
    match = run()[2].match
    if name == "dual encoder":
        assert match is None
        return
    assert match.shape == (B,)
    assert not np.allclose(run(images=batch["images"] + 1)[2].match, match, atol=1e-3)


def test_the_order_of_patches_counts(model, batch):
    _, _, run = model
    turned = run(images=batch["images"][:, ::-1])[2].image
    assert not np.allclose(turned, run()[2].image, atol=1e-3)


def test_cosines_are_never_multiplied_by_more_than_100(model):
    _, params, run = model
    for value, scale in ((0.0, 1.0), (3.0, np.exp(3)), (9.0, 100.0)):
        params["params"]["joint"]["log_scale"] = jnp.asarray(value)
        np.testing.assert_allclose(run(params)[2].scale, scale, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", DESIGNS)
def test_other_parameters_are_those_of_the_model_without_features(batch, name):
    config = VisionLanguageConfig(**LEAN | DESIGNS[name])
    plain = VisionLanguageDecoder(V, dataclasses.replace(config, embedding=0))
    made = lambda module: jax.jit(module.init)(jax.random.key(0), **batch)["params"]
    features, without = made(VisionLanguageDecoder(V, config)), made(plain)
    assert set(features) - set(without) == {"joint"}
    del features["joint"]
    jax.tree.map(np.testing.assert_array_equal, features, without)
    with pytest.raises(ValueError, match="has no features of images and texts"):
        jax.eval_shape(functools.partial(plain.apply, last=LAST), {"params": without}, **batch)


@pytest.mark.slow
def test_half_precision_compares_in_single(batch):
    config = VisionLanguageConfig(**LEAN | DESIGNS["coca"], dtype="bfloat16")
    made = VisionLanguageDecoder(V, config)
    params = jax.eval_shape(made.init, jax.random.key(0), **batch)
    found = jax.eval_shape(functools.partial(made.apply, last=LAST), params, **batch)[2]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}


def test_words_that_have_read_the_image_are_refused():
    said = (
        "words of flamingo read the image in all layers: set model.context_view none, or "
        "model.preset coca_decoder"
    )
    with pytest.raises(ValueError, match=said):
        VisionLanguageConfig(preset="flamingo", embedding=8)
    with pytest.raises(ValueError, match="embedding cannot be negative, got -1"):
        VisionLanguageConfig(embedding=-1)
