"""Packed pairs: the loss of the pairs alone, no leaks, shares of processes, resuming."""

import io
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from crossattn.data.packing import NativeResolution, PackedPairs, PicturedText
from crossattn.nn import presets
from crossattn.nn.stack import Stack
from crossattn.ops import Mask

WIDTH, VOCABULARY, LENGTH = 8, 13, 11


def pair(number):
    """Words and patches of a number, of lengths that differ."""
    random = np.random.default_rng(number)
    words, patches = 3 + 2 * (number % 3), 2 + number % 3
    tokens = random.integers(1, VOCABULARY, words).astype(np.int32)
    target = np.arange(words) > number % 2
    places = random.random((patches, 2), np.float32)
    return PicturedText(tokens, target, random.random((patches, WIDTH), np.float32), places)


def packed(count=23, seed=0, **rest):
    sizes = {"rows": 3, "words": 17, "patches": 13}
    return PackedPairs(pair, count, seed=seed, **(sizes | rest))


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def texts(batch):
    """The words of every pair of a batch."""
    for words, segments in zip(batch.tokens, batch.segments, strict=True):
        for segment in range(1, segments.max() + 1):
            yield words[segments == segment].tobytes()


@pytest.fixture(scope="module")
def model():
    stack = Stack(layers=1, width=WIDTH, heads=2, config=presets.config("encoder_decoder_pre"))
    keys = jax.random.split(jax.random.key(0), 3)
    tables = [jax.random.normal(key, (size, WIDTH)) for key, size in
              zip(keys, (VOCABULARY, LENGTH), strict=False)]  # fmt: skip
    x, context = jnp.ones((1, 3, WIDTH)), jnp.ones((1, 2, WIDTH))
    params = stack.init(keys[2], x, context, self_mask=Mask.causal(0))

    @jax.jit
    def losses(tokens, target, positions, patches, mask, self_mask):
        """The loss of each word that is to be predicted, by the word before it."""
        x = tables[0][tokens] + tables[1][positions]
        y, _ = stack.apply(params, x, patches, mask=mask, self_mask=self_mask)
        said = jax.nn.log_softmax(y @ tables[0].T)[:, :-1]
        of_word = jnp.take_along_axis(said, tokens[:, 1:, None], axis=-1)[..., 0]
        return jnp.where(target[:, 1:], -of_word, 0.0)

    return losses


def of_batch(model, batch, **changed):
    batch = batch._replace(**changed)
    return np.asarray(
        model(
            batch.tokens, batch.target, batch.positions, batch.patches, batch.mask, batch.self_mask
        )
    )


def test_packed_loss_is_the_loss_of_the_pairs_alone(model):
    batch = next(packed().batches())
    losses = of_batch(model, batch)
    assert batch.segments.max() > 1
    seen = 0
    alone = {}
    for number in range(23):
        one = pair(number)
        rows = [part[None] for part in (one.tokens, one.target, np.arange(len(one.tokens)))]
        alone[one.tokens.tobytes()] = float(
            model(*rows, one.patches[None], None, Mask.causal(0)).sum()
        )
    for row, segment in itertools.product(range(3), range(1, batch.segments.max() + 1)):
        words = batch.segments[row] == segment
        if not words.any():
            continue
        seen += 1
        own = losses[row][words[1:]].sum()
        np.testing.assert_allclose(own, alone[batch.tokens[row, words].tobytes()], rtol=1e-6)
    assert seen > 3
    # Words that begin a text are predicted by nothing.
    assert not losses[:, :][np.diff(batch.segments, axis=1) != 0].any()


def test_no_pair_sees_another(model):
    batch = next(packed().batches())
    before = of_batch(model, batch)
    other = batch.shown == 1
    after = of_batch(model, batch, patches=np.where(other[..., None], 9.0, batch.patches))
    untouched = batch.segments[:, 1:] != 1
    np.testing.assert_array_equal(before[untouched], after[untouched])
    assert np.abs(before - after).max() > 0.01


def test_every_pair_is_packed_once_an_epoch():
    rows = [text for batch in itertools.islice(packed().batches(), 4) for text in texts(batch)]
    every = {pair(number).tokens.tobytes() for number in range(23)}
    assert set(rows[:23]) <= every
    assert len(set(rows)) > 18


def test_batches_go_on_from_a_state():
    whole = packed(seed=4).batches()
    some = [next(whole) for _ in range(3)]
    # Between two batches a state is JSON.
    state = json.loads(json.dumps(whole.state()))
    rest = [next(whole) for _ in range(3)]
    resumed = packed(seed=4).batches(state)
    assert all(same(one, next(resumed)) for one in rest)
    assert same(some[0], next(packed(seed=4).batches()))
    assert not same(some[0], next(packed(seed=5).batches()))


def test_processes_pack_different_pairs():
    first = [next(packed(22, process=process, processes=2).batches()) for process in (0, 1)]
    shares = [set(texts(batch)) for batch in first]
    assert not shares[0] & shares[1]


def test_what_does_not_fit_a_row_is_named():
    with pytest.raises(
        ValueError, match=r"pair \d+ has 7 words and 4 patches: a row holds 6 and 13"
    ):
        list(itertools.islice(packed(words=6).batches(), 9))
    with pytest.raises(ValueError, match="1 pairs are none for each of 2 processes"):
        packed(1, processes=2)


@pytest.mark.parametrize("size", [(640, 480), (48, 32), (9, 400), (5, 5), (1000, 7), (333, 331)])
def test_pictures_keep_their_aspect_ratio(size):
    resolution = NativeResolution(most=48)
    rows, columns = resolution.grid(size)
    assert 1 <= rows * columns <= 48
    if min(rows, columns) > 2:
        assert columns / rows == pytest.approx(size[0] / size[1], rel=0.26)
    file = io.BytesIO()
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    picture[:, : size[0] // 2] = 255
    Image.fromarray(picture).save(file, "PNG")
    patches, places = resolution.patches(file.getvalue())
    assert patches.shape == (rows * columns, 192)
    if columns >= 4:
        assert (patches[places[:, 1] < 0.5 - 1 / columns] > 0.9).all()
        assert (patches[places[:, 1] > 0.5 + 1 / columns] < 0.1).all()


def test_coverage_of_patches_by_pixels():
    boxes = np.array([[0.25, 0.1, 0.75, 0.55], [0, 0, 1, 1]])
    found = NativeResolution().coverage(boxes, (3, 5))
    pixels = np.zeros((2, 60, 100))
    for drawn, (top, left, bottom, right) in zip(pixels, boxes, strict=True):
        drawn[round(top * 60) : round(bottom * 60), round(left * 100) : round(right * 100)] = 1
    expected = pixels.reshape(2, 3, 20, 5, 20).mean(axis=(2, 4)).reshape(2, -1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
