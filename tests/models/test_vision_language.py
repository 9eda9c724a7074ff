"""The vision-language decoder of every preset: no word leaks, no hidden patch counts.

A preset costs one compilation: its program is run on different data.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import presets
from tests.support.families import SOME, some_quick

I, B, T, P, V, F = 2, 4, 5, 7, 11, 3  # noqa: E741 - I counts images
PROMPT = 3  # words before the first to predict
LAYOUTED = {"contexts": ("image", "boxes")}
LEAN = {"width": 8, "heads": 2, "latents": 3}

# Rows of the laboratory that are no preset as it is published.
ROWS = {
    "truth": {"context_view": "truth", **LAYOUTED},
    "mean": {"context_view": "mean", **LAYOUTED},
    "none": {"context_view": "none", **LAYOUTED},
    "boxes": LAYOUTED,
    "connector": {"connector": "perceiver_encode", **LAYOUTED},
    "every second": {"cross_every": 2, "cross_at": 1, "layers": 4},
    "encoder layers": {"encoder_layers": 2, **LAYOUTED},
    "connector, every second": {"connector": "perceiver_encode", "cross_every": 2, "layers": 4},
    "coca, mean": {"preset": "coca_decoder", "context_view": "mean"},
    "flamingo, every second": {"preset": "flamingo", "cross_every": 2, "layers": 4},
    "flamingo, truth": {"preset": "flamingo", "context_view": "truth"},
    "merged, truth": {"preset": "merged", "context_view": "truth"},
    "meter, three layers": {"preset": "meter", "layers": 3, "width": 16, **LAYOUTED},
    "prefix, three layers": {"preset": "prefix_lm", "layers": 3, "width": 16, **LAYOUTED},
    "bottleneck, three layers": {"preset": "bottleneck", "layers": 3},
    "bidirectional with boxes": {"preset": "bidirectional", **LAYOUTED},
}
NAMES = [*presets.names(), *ROWS]
QUICK_DESIGNS = SOME - {"encoder_decoder_pre", "flamingo", "qformer", "sinks"}
QUICK_ROWS = ("truth", "none", "connector", "every second", "encoder layers", "coca, mean")
BLIND = ("none",)
# There is no map of single patches, or words read what is no patch as well.
POOLED = ("none", "mean", "coca, mean")


def fields(name):
    if name in ROWS:
        return LEAN | ROWS[name]
    return LEAN | {"preset": name} | (LAYOUTED if name == "ip_adapter" else {})


@pytest.fixture(scope="module")
def batch():
    """In NumPy: what is changed of it costs no compilation."""
    rng = np.random.default_rng(0)
    boxes = rng.normal(size=(I, 2, 3)).astype(np.float32)
    boxes[1, 1] = 0
    return {
        "tokens": rng.integers(0, V, (B, T), np.int32),
        "images": rng.normal(size=(I, P, F)).astype(np.float32),
        "truth": rng.random((B, T, P)) < 0.3,
        "prompt": np.broadcast_to(np.arange(T) < PROMPT, (B, T)),
        "boxes": boxes,
    }


def put(array, where, value):
    """A copy with the value there."""
    array = array.copy()
    array[where] = value
    return array


def filled(module, batch):
    """Random values in the shapes of the model: all of them count, no zeros."""
    shapes = jax.eval_shape(module.init, jax.random.key(1), **batch)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: rng.normal(0, 0.4, p.shape).astype(p.dtype), shapes)


class Case:
    """A model, its parameters, and its program."""

    def __init__(self, name, batch):
        self.config = VisionLanguageConfig(**fields(name))
        self.module = VisionLanguageDecoder(V, self.config)
        visible = np.ones((self.config.reading_layers, I, P), bool)
        self.batch = {**batch, "visible": visible}
        self.params = filled(self.module, self.batch)
        look = lambda attention: (attention.weights(), attention.mass())
        self.run = jax.jit(functools.partial(self.module.apply, observe=look))

    def __call__(self, params=None, **changes):
        found = self.run(self.params if params is None else params, **self.batch | changes)
        return jax.tree.map(np.asarray, found)


@pytest.fixture(scope="module", params=some_quick(NAMES, QUICK_DESIGNS | {*QUICK_ROWS}))
def case(request, batch):
    yield request.param, Case(request.param, batch)
    jax.clear_caches()


def test_words_ahead_never_matter_nor_those_of_other_texts(case):
    _, model = case
    logits, _ = model()
    tokens = model.batch["tokens"]
    for position in range(PROMPT, T):
        ahead = (slice(None), position)
        changed, _ = model(tokens=put(tokens, ahead, (tokens[ahead] + 1) % V))
        np.testing.assert_allclose(logits[:, :position], changed[:, :position], atol=2e-6)
        assert not np.allclose(logits[:, position], changed[:, position], atol=1e-5)
    changed, _ = model(tokens=put(tokens, 1, (tokens[1] + 1) % V))
    np.testing.assert_allclose(logits[0], changed[0], atol=2e-6)
    assert not np.allclose(logits[1], changed[1], atol=1e-3)


def test_hidden_patches_never_matter(case):
    name, model = case
    if name in BLIND:
        return
    visible = put(model.batch["visible"], np.s_[:, :, 2:4], False)
    logits, _ = model(visible=visible)
    images = put(model.batch["images"], np.s_[:, 2:4], np.nan)
    changed, (weights, _) = model(images=images, visible=visible)
    np.testing.assert_array_equal(logits, changed)
    assert not np.allclose(logits, model()[0], atol=1e-4)
    if name not in POOLED:
        assert not weights[..., 2:4].any()


def test_without_any_patch_the_image_never_matters(case):
    name, model = case
    nothing = np.zeros_like(model.batch["visible"])
    logits, (_, mass) = model(visible=nothing)
    other, _ = model(visible=nothing, images=np.full((I, P, F), np.nan, np.float32))
    np.testing.assert_array_equal(logits, other)
    assert name in POOLED or not mass.any()
    assert np.isfinite(logits).all()


def test_a_knock_out_in_one_layer_is_in_that_layer(case):
    name, model = case
    if name in POOLED:
        return
    _, (weights, mass) = model()
    last = model.config.reading_layers - 1
    assert weights.shape == (last + 1, B, model.config.heads, T, P)
    _, (changed, _) = model(visible=put(model.batch["visible"], np.s_[last, :, 2], False))
    if last:
        np.testing.assert_array_equal(weights[0], changed[0])
    assert (weights[last, ..., 2] > 0).any()
    assert not changed[last, ..., 2].any()
    seen = weights.any(-1)
    np.testing.assert_allclose(weights.sum(-1)[seen], 1, atol=1e-5)
    assert (mass <= 1 + 1e-5).all()


def test_texts_read_their_own_image(case):
    """In whatever place of the batch an image stands with its texts."""
    _, model = case
    logits, (weights, _) = model()
    turned = {key: value[::-1] for key, value in model.batch.items() if key != "visible"}
    texts = np.array([3, 2, 1, 0])
    again, (seen, _) = model(**turned)
    np.testing.assert_allclose(logits, again[texts], atol=2e-5)
    np.testing.assert_allclose(weights, seen[:, texts], atol=2e-5)


def test_boxes_are_read_and_absent_ones_are_not(case):
    name, model = case
    if "boxes" not in model.config.contexts or name in BLIND:
        return
    logits, _ = model()
    boxes = model.batch["boxes"]
    moved, _ = model(boxes=put(boxes, (0, 0), boxes[0, 0] + 1))
    texts = B // I
    np.testing.assert_allclose(logits[texts:], moved[texts:], atol=2e-6)
    assert not np.allclose(logits[:texts], moved[:texts], atol=1e-4)
    # Without the one object that is there the second image has patches only.
    gone, _ = model(boxes=put(boxes, 1, 0))
    assert not np.allclose(gone[texts:], logits[texts:], atol=1e-4)


# One of each way of joining.
USES = {
    "decoder": {"preset": "encoder_decoder_pre"},
    "sparse": {"cross_every": 2, "layers": 4},
    "interleaved": {"preset": "flamingo"},
    "connector": {"connector": "perceiver_encode"},
    "two streams": {"preset": "meter"},
    "prefix": {"preset": "prefix_lm"},
    "bottleneck": {"preset": "bottleneck"},
}


QUICK = ("decoder",)


@pytest.mark.parametrize(
    "name",
    some_quick(USES, QUICK),
)
def test_how_it_computes_is_a_field(batch, name):
    """Dropout only where a key is given; less memory and half precision change little."""
    plain = VisionLanguageConfig(**LEAN | USES[name])
    module = VisionLanguageDecoder(V, plain)
    given = batch | {"visible": np.ones((plain.reading_layers, I, P), bool)}
    given = jax.tree.map(jnp.asarray, given)
    params = filled(module, given)
    # Each way is a program of its own: one of all of them takes XLA three times as long.
    of = lambda **how: VisionLanguageDecoder(V, dataclasses.replace(plain, **how))
    logits = lambda params, module, **rngs: module.apply(params, **given, rngs=rngs)[0]
    run = jax.jit(logits, static_argnums=1)
    gradient = jax.jit(jax.grad(lambda *call: jnp.sin(logits(*call)).sum()), static_argnums=1)
    half = of(dropout=0.5)
    found = {
        "logits": run(params, module),
        "still": run(params, half),
        "drawn": [run(params, half, dropout=jax.random.key(seed)) for seed in range(2)],
        "bfloat16": run(params, of(dtype="bfloat16")),
        "gradient": gradient(params, module),
        "remat": gradient(params, of(remat="everything")),
    }
    np.testing.assert_array_equal(found["logits"], found["still"])
    one, other = found["drawn"]
    assert not np.allclose(one, found["logits"], atol=1e-3)
    assert not np.allclose(one, other, atol=1e-3)
    scale = np.abs(found["logits"]).max()
    np.testing.assert_allclose(found["bfloat16"], found["logits"], atol=0.15 * scale)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4 * max(1, np.abs(b).max())),
        found["remat"],
        found["gradient"],
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "flamenco"}, "unknown preset 'flamenco', did you mean 'flamingo'"),
        ({"preset": "ip_adapter"}, "ip_adapter reads two contexts: set model.contexts"),
        ({"preset": "bottleneck", "layers": 1}, "needs model.layers of at least 2"),
        ({"connector": "meter"}, "makes no latents of an image: choose one of perceiver_encode"),
        ({"connector": "qformer", "preset": "meter"}, "stands before a decoder"),
        ({"preset": "meter", "context_view": "mean"}, "is for words that read the context itself"),
        ({"preset": "meter", "cross_every": 2}, "model.cross_every is for decoders"),
        ({"layers": 3, "cross_every": 2}, "model.layers 3 is not a multiple of cross_every 2"),
        ({"cross_every": 2, "cross_at": 2}, "model.cross_at 2 is the place .* among 2"),
        ({"preset": "flamingo", "cross_every": 2, "cross_at": 1}, "flamingo is of use interleaved"),
        ({"dropout": 1.0}, r"model.dropout is a share in \[0, 1\), got 1.0"),
        ({"block": presets.config("meter"), "preset": "t5"}, "model.block of preset t5 is a Block"),
        ({"contexts": ()}, "model.contexts are one or more different modalities"),
        ({"heads": 3}, "model.width 8 is not a multiple of heads 3"),
    ],
)
def test_what_does_not_go_together_is_refused(given, message):
    with pytest.raises(ValueError, match=message) as raised:
        VisionLanguageConfig(**LEAN | given)
    assert "\n" not in str(raised.value)
