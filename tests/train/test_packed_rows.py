"""Texts that share rows: the same losses, gradients and batches, on one process and on several."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.batches import WHOLE, Batches, Share
from crossattn.data.curriculum import Curriculum
from crossattn.data.packed_order import PackedOrder, read_words
from crossattn.sharding import make_mesh
from crossattn.train import step as steps
from crossattn.train.loop import TrainPrograms
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of, load_dataset
from tests.support import published_sets as made

SMALL = Run(
    data=Data(images=100, packing=3),
    model=Model(width=8, layers=2, heads=2),
    steps=20,
    batch_size=24,
)
# Presets whose words have their own image in a row of several, and one block of each other kind.
DESIGNS = {
    "cross-attention": {},
    "gated": {"model.preset": "flamingo", "model.text_preset": "whisper"},
    "latents": {"model.connector": "perceiver_encode", "model.latents": 3},
    "mean": {"model.context_view": "mean"},
    "blind": {"model.context_view": "none"},
    "sparse": {"model.cross_every": 2},
    "upper half": {"model.preset": "coca_decoder"},
    "turned": {
        "model.block.self_attention.positions": "rotary",
        "model.block.cross_attention.positions": "rotary",
        "data.texts_per_image": 1,
        "batch_size": 12,
    },
    "added": {
        "model.block.self_attention.positions": "add",
        "model.block.cross_attention.positions": "add",
        "data.texts_per_image": 1,
        "batch_size": 12,
    },
    "boxes": {"model.contexts": ("image", "boxes")},
}
QUICK = ("turned",)


def alone(batch):
    """The same texts, each with a row of its own."""
    return batch._replace(packed=None)


def both(run, batch, words):
    """Loss, metrics and gradients of a batch, and of its texts in rows of their own."""
    model = steps.model_of(run, words)
    params = jax.jit(lambda: model.init(jax.random.key(0), **steps.inputs_of(alone(batch))))()
    # No gate is closed.
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    of = lambda one: jax.jit(
        jax.value_and_grad(lambda p: steps.objective(model, p, one), has_aux=True)
    )(params)
    return of(batch), of(alone(batch))


def close(found, wanted, bound=1e-6):
    scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=bound, atol=bound * max(1.0, scale))


@pytest.mark.parametrize(
    "design",
    [pytest.param(one, marks=() if one in QUICK else pytest.mark.slow) for one in DESIGNS],
)
def test_rows_of_several_texts_have_the_loss_and_the_gradients_of_each(examples, design):
    changes, train = DESIGNS[design], examples
    if design == "boxes":
        train = scenes.examples("train", 100, seed=0, boxes=True)
    run = replace(SMALL, changes)
    batch = jax.tree.map(jnp.asarray, batches_of(run, train, 0).batch(0))
    rows = len(batch.packed)
    # Four rows of three images; less padding than the texts alone.
    assert rows == 4
    assert batch.packed.size < len(batch.tokens) * (batch.tokens.shape[1] - 1)
    ((loss, metrics), gradients), ((wanted, others), whole) = both(
        run, batch, len(examples.vocabulary)
    )
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy"], others["accuracy"], rtol=1e-6)
    close(gradients, whole)


def packed_texts(order, step):
    """The texts of a step, by row."""
    return order.rows(step).reshape(-1, order.texts * order.places.shape[1])


def test_every_image_once_an_epoch_in_rows_of_one_width():
    random = np.random.default_rng(0)
    image = np.sort(np.concatenate([np.arange(23), random.integers(0, 23, 40)]))
    words = random.integers(0, 30, len(image))
    orders = [
        PackedOrder(image, words, packing=3, batch_size=12, texts_per_image=2, seed=seed)
        for seed in range(5)
    ]
    assert len({order.width for order in orders}) == 1
    seen = []
    for order in orders:
        assert order.position(7) == {"epoch": 2, "batch": 1}
        for epoch in range(4):
            rows = np.concatenate([packed_texts(order, 3 * epoch + step) for step in range(3)])
            assert words[rows].sum(axis=1).max() <= order.width
            images = image[rows.reshape(-1, 2)]
            assert (images[:, 0] == images[:, 1]).all()
            # Of 23 images 5 do not fill a batch.
            assert len(set(images[:, 0].tolist())) == len(images) == 18
            seen.append(rows.tobytes())
    assert len(set(seen)) == 20
    # Any step can be asked for, in any sequence.
    again = PackedOrder(image, words, packing=3, batch_size=12, texts_per_image=2, seed=4)
    np.testing.assert_array_equal(again.rows(11), orders[4].rows(11))
    np.testing.assert_array_equal(again.rows(2), orders[4].rows(2))


def same(one, other):
    return all(
        (a is None and b is None) or np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


def test_shares_are_parts_of_the_batch_and_stages_have_one_width(examples):
    sizes = {"texts_per_image": 2, "seed": 1, "packing": 2}
    curriculum = Curriculum((), ("left", "right"), 2)
    feed = lambda **rest: Batches(examples, 8, **sizes, **rest)
    for given in ({}, {"curriculum": curriculum}, {"mismatched": 0.5}):
        for step in (0, 3):
            whole = feed(**given).batch(step)
            parts = [feed(**given, share=Share(part, 2)).batch(step) for part in range(2)]
            assert same(whole, jax.tree.map(lambda *x: np.concatenate(x), *parts))
            picked = feed(**given).picked(step)
            np.testing.assert_array_equal(picked.packed, whole.packed)
    staged = feed(curriculum=curriculum)
    assert staged.batch(0).packed.shape == staged.batch(3).packed.shape


@pytest.fixture(scope="module")
def flickr(tmp_path_factory):
    directory = made.write_flickr30k(tmp_path_factory.mktemp("flickr"), train=11)
    data = Data("flickr30k_entities", directory=str(directory), image_size=24, packing=2)
    run = Run(data=data, model=Model(image_encoder="window"), batch_size=8)
    return run, load_dataset(run)


def test_sets_that_are_read_while_a_run_trains_share_rows_too(flickr):
    run, source = flickr
    feed = lambda share=WHOLE: batches_of(run, source.train, 3, share)
    uninterrupted = list(itertools.islice(feed().batches(0), 5))
    resumed = feed().batches(3)
    for step, batch in enumerate(uninterrupted):
        assert same(batch, feed().batch(step))
        parts = [feed(Share(part, 2)).batch(step) for part in range(2)]
        assert same(batch, jax.tree.map(lambda *x: np.concatenate(x), *parts))
        assert batch.packed.shape[0] == 2
        words = read_words(batch.target).reshape(2, -1).sum(axis=1)
        assert ((batch.packed >= 0).sum(axis=1) == words).all()
        if step >= 3:
            assert same(batch, next(resumed))
    assert feed().position(5) == {"epoch": 2, "batch": 1}
    pictures = {one.tobytes() for batch in uninterrupted[:2] for one in batch.images}
    assert len(pictures) == 8
    with pytest.raises(ValueError, match=re.escape("batch_size 8 is not a multiple of 12: ")):
        feed(Share(0, 3))


def test_own_streams_that_cannot_share_rows_are_refused(flickr):
    class Own:
        grid = (1, 1)

        def __len__(self):
            return 1

        def drawn(self, size, texts_per_image, seed, share):
            raise AssertionError

    with pytest.raises(ValueError, match=re.escape("have no drawn_packed: set it to 0")):
        batches_of(flickr[0], Own(), 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.packing": -1}, "data.packing is a number of images, got -1"),
        ({"data.packing": 5}, "data.packing 5 x data.texts_per_image 2: set it to 30"),
        ({"model.preset": "meter"}, "not in model.preset meter: set data.packing to 0"),
        ({"model.preset": "prefix_lm"}, "not in model.preset prefix_lm: set data.packing to 0"),
        ({"model.context_view": "truth"}, "is not for model.context_view truth"),
        (
            {"model.block.cross_attention.logits.competition": "queries"},
            "model.block.cross_attention.logits.competition words of other texts",
        ),
        ({"loss.attention": 0.5}, "the loss of the next word, not for loss.attention"),
        (
            {"loss.contrastive": 1.0, "model.context_view": "none", "model.embedding": 8},
            "the loss of the next word, not for loss.contrastive",
        ),
    ],
)
def test_what_is_not_the_same_in_a_row_is_refused_in_one_line(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        replace(SMALL, changes)
    assert "\n" not in str(raised.value)


def test_rows_are_not_taken_apart():
    with pytest.raises(ParallelismError, match="does not divide by 48: 6 texts of a row x 8"):
        Parallelism(make_mesh("data=8")).check(SMALL)


@pytest.mark.slow
def test_steps_over_devices_and_in_parts_are_those_of_texts_alone(examples):
    """Two rows on each of two devices, one of them at a time."""
    run = replace(SMALL, {"model.layers": 1})

    def stepped(run, parallel, batches):
        programs = TrainPrograms(run, len(examples.vocabulary), parallel)
        state = programs.create(0, alone(batches.batch(0)))
        state, metrics = programs.step(state, parallel.place([batches.batch(0)]), 0.01)
        return jax.device_get((metrics["loss"], metrics["gradient_norm"], state.params))

    class Alone:
        def batch(self, step):
            return alone(batches.batch(step))

    batches = batches_of(run, examples, 0)
    mesh = make_mesh("data=2", devices=jax.devices()[:2])
    found = stepped(run, Parallelism(mesh, accumulate=2), batches)
    wanted = stepped(run, Parallelism(), Alone())
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-6)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-5)
