"""Pictures of native aspect ratio in training and in measures: what is beside them is nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from crossattn.align import knockouts
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import AttentionMaps
from crossattn.data import scenes
from crossattn.data.batches import Batch
from crossattn.train import step as steps
from crossattn.train.predictions import Look
from crossattn.train.references import random_looks
from crossattn.train.run import Run, replace

# On 3 x 3 cells a picture of 2 x 3 and one of 3 x 1.
SHOWN = np.zeros((2, 3, 3), bool)
SHOWN[0, :2], SHOWN[1, :, :1] = True, True
BASE = replace(
    Run(),
    {"model.image_encoder": "patch", "model.width": 8, "model.heads": 2, "model.layers": 2},
)
DESIGNS = {
    "cross-attention": {},
    "mean": {"model.context_view": "mean"},
    "single-stream": {"model.preset": "prefix_lm"},
    "co-attention": {"model.preset": "meter", "model.block.one_sided": ("self",)},
    "resampler": {"model.connector": "perceiver_encode", "model.latents": 2},
    "gated": {"model.preset": "flamingo"},
    "compared": {"model.preset": "coca_decoder", "model.embedding": 4},
}


def made(model, own):
    params = jax.jit(lambda one: model.init(jax.random.key(0), **steps.inputs_of(one)))(own)
    # No gate is closed.
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def batch(seed=0):
    random = np.random.default_rng(seed)
    tokens = random.integers(1, 11, (4, 5)).astype(np.int32)
    return Batch(
        tokens,
        np.broadcast_to(np.arange(5) > 2, (4, 5)),
        np.zeros((4, 5, 1), bool),
        random.integers(0, 255, (2, 24, 24, 3), np.uint8),
        np.zeros((2, 1, 9), np.float32),
        shown=SHOWN.reshape(2, 9),
    )


QUICK = ("cross-attention", "single-stream")


@pytest.mark.parametrize(
    "design",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in DESIGNS],
)
def test_no_model_sees_what_is_beside_a_picture(design):
    run = replace(BASE, DESIGNS[design])
    model, own = steps.model_of(run, 11), batch()
    params = made(model, own)
    pixels = SHOWN.repeat(8, axis=1).repeat(8, axis=2)[..., None]
    other = own._replace(images=np.where(pixels, own.images, 255 - own.images))
    compare = bool(run.model.embedding)

    @jax.jit
    def said(one):
        found = steps.forward(model, params, one, compare=compare)
        return found[0], found[2][:2] if compare else ()

    for one, two in zip(*(jax.tree.leaves(said(each)) for each in (own, other)), strict=True):
        np.testing.assert_array_equal(one, two)
    whole = said(other._replace(shown=np.ones((2, 9), bool)))
    assert np.abs(whole[0] - said(other)[0]).max() > 1e-4


def test_a_padded_picture_has_the_loss_of_the_picture_alone():
    model, own = steps.model_of(BASE, 11), batch()
    params = made(model, own)
    loss = jax.jit(lambda params, one: steps.objective(model, params, one)[0])
    padded = loss(params, own)
    alone = []
    for number, (rows, columns) in enumerate([(2, 3), (3, 1)]):
        cells = np.flatnonzero(SHOWN[number])
        # The true grid of a picture has the positions of these cells.
        table = lambda x, cells=cells: x[cells] if x.shape[0] == 9 else x
        small = jax.tree.map(table, params["params"]["encoder"]["position"])
        fewer = jax.tree.map(lambda x: x, params)
        fewer["params"]["encoder"]["position"] = small
        texts = slice(2 * number, 2 * number + 2)
        one = Batch(
            own.tokens[texts], own.target[texts], own.grounded[texts],
            own.images[number : number + 1, : 8 * rows, : 8 * columns],
            np.zeros((1, 1, rows * columns), np.float32),
        )  # fmt: skip
        alone.append(loss(fewer, one))
    np.testing.assert_allclose(padded, np.mean(alone), rtol=1e-6)


def maps(random, shown):
    """Attention of six words, two of each of three pictures."""
    N, P = shown.shape
    weights = np.where(shown, random.random((N, P)), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    coverage = np.where(shown, random.random((N, P)), 0) * (random.random((N, P)) < 0.5)
    coverage[np.arange(N), shown.argmax(axis=1)] = 0.9
    peaks = np.stack([weights.argmax(axis=1)] * 2, axis=1)
    box = np.tile([0.0, 0.0, 0.5, 0.75], (N, 1))
    return AttentionMaps(
        weights, peaks, np.ones(N), coverage >= 0.1, coverage, (4, 4), box, np.arange(N), shown
    )


def test_measures_count_the_patches_that_show_the_picture():
    random = np.random.default_rng(0)
    shown = np.zeros((6, 4, 4), bool)
    shown[:, :2, :3] = True
    padded = maps(random, shown.reshape(6, 16))
    kept = padded.shown[0]
    half = np.array([2, 4 / 3])  # of the canvas as of the picture
    alone = dataclasses.replace(
        padded,
        **{name: getattr(padded, name)[:, kept] for name in ("weights", "region", "coverage")},
        grid=(2, 3), box=padded.box * np.tile(half, 2), shown=None,
        peaks=np.cumsum(kept)[padded.peaks] - 1,
    )  # fmt: skip
    found = []
    for one in (padded, alone):
        evidence = Evidence()
        evidence.read("answer", one)
        found.append((evidence.metrics, evidence.chance))
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], rtol=1e-6, err_msg=name)


def test_random_attention_lies_on_the_picture():
    data = scenes.examples("iid", 100, seed=0)
    shown = np.random.default_rng(0).random((100, 64)) < 0.5
    data = dataclasses.replace(data, shown=shown)
    E, T = data.tokens.shape
    look = Look(np.zeros((2, E, T, 64)), np.zeros((2, E, T, 2)), np.ones((2, E, T)))
    drawn = random_looks({"iid": data}, {"iid": look}, 0)["iid"]
    seen = np.broadcast_to(shown[data.image][:, None], (E, T, 64))
    assert (drawn.attention[:, ~seen] == 0).all()
    np.testing.assert_allclose(drawn.attention.sum(axis=-1), 1)
    for peaks in drawn.peak:
        assert np.take_along_axis(seen, peaks.astype(int), axis=-1).all()


def test_random_regions_lie_on_the_picture():
    shown = np.zeros((50, 9), bool)
    shown[:, :5] = True
    truth = np.zeros((50, 9), bool)
    truth[:, :2] = True
    seen = knockouts(truth, np.random.default_rng(0), shown)
    assert (~seen["random"] <= shown & ~truth).all()
    assert (seen["random"].sum(axis=1) == 7).all()
    with pytest.raises(ValueError, match="no room"):
        knockouts(truth, np.random.default_rng(0), shown & (np.arange(9) < 3))
