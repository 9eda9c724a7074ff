"""The order of the data is a pure function of seed and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.batches import WHOLE, Batches, Order, Share, flip, gather
from crossattn.data.sources import Data
from crossattn.train.chunks import OnDevice

IMAGE = np.repeat(np.arange(11), 3)  # 11 images with 3 texts each


def order(seed=0):
    return Order(IMAGE, batch_size=6, texts_per_image=2, seed=seed)


def test_an_epoch_visits_images_once_with_different_texts():
    rows = np.stack([order().rows(step) for step in range(5)]).reshape(-1, 2)
    images = IMAGE[rows]
    assert (images[:, 0] == images[:, 1]).all()
    assert (rows[:, 0] != rows[:, 1]).all()
    assert order().batches == 3
    assert len(set(images[:9, 0])) == 9


def test_any_step_can_be_asked_for_first():
    forwards, backwards = order(), order()
    wanted = [forwards.rows(step).tolist() for step in range(9)]
    assert [backwards.rows(step).tolist() for step in reversed(range(9))] == wanted[::-1]
    assert forwards.position(7) == {"epoch": 2, "batch": 1}
    assert wanted != [order(seed=1).rows(step).tolist() for step in range(9)]


def test_images_with_few_texts_repeat_them():
    few = Order(np.array([0, 1, 1]), batch_size=4, texts_per_image=2, seed=0)
    assert sorted(few.rows(0)) == [0, 0, 1, 2]


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="11 images do not fill one batch of 20"):
        Order(IMAGE, batch_size=40, texts_per_image=2, seed=0)


def test_gather_shares_images_between_neighbours():
    data = scenes.examples("iid", 100, seed=0)
    batch = gather(data, np.array([3, 103, 7, 107]), texts_per_image=2)
    assert batch["images"].shape[0] == 2
    np.testing.assert_array_equal(batch["images"][1], data.images[7])
    np.testing.assert_array_equal(batch["tokens"][3], data.tokens[107])


def test_flip_mirrors_pictures_and_regions():
    data = scenes.examples("iid", 100, seed=0, image_encoder="patch")
    batch = gather(data, np.arange(3))
    flipped = flip(batch, data.grid, np.array([True, False, True]))
    np.testing.assert_array_equal(flipped["images"][0], batch["images"][0][:, ::-1])
    np.testing.assert_array_equal(flipped["images"][1], batch["images"][1])
    square = batch["coverage"][2].reshape(-1, *data.grid)
    np.testing.assert_array_equal(
        flipped["coverage"][2].reshape(-1, *data.grid), square[:, :, ::-1]
    )


def mismatched(share, *, part=WHOLE, seed=0, size=20):
    data = scenes.examples("train", 100, seed=0)
    return Batches(data, size, texts_per_image=2, seed=seed, mismatched=share, share=part)


def test_a_share_of_the_pictures_gives_way_to_others_of_the_batch():
    clean, noisy = mismatched(0.0), mismatched(0.3)
    wrong = []
    for step in range(40):
        right, batch = clean.batch(step), noisy.batch(step)
        for name in ("tokens", "target"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(right, name))
        # Every picture is found in the batch, with its own regions.
        found = (batch.images[:, None] == right.images[None]).all(axis=(2, 3))
        assert (found.sum(axis=1) == 1).all()
        place = found.argmax(axis=1)
        np.testing.assert_array_equal(batch.coverage, right.coverage[place])
        moved = place != np.arange(10)
        texts = np.repeat(moved, 2)
        assert not batch.grounded[texts].any()
        np.testing.assert_array_equal(batch.grounded[~texts], right.grounded[~texts])
        wrong.append(moved.mean())
    assert abs(np.mean(wrong) - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 400)


def test_wrong_pictures_follow_from_seed_and_step():
    whole, again = mismatched(0.5), mismatched(0.5)
    parts = [mismatched(0.5, part=Share(number, 2)) for number in range(2)]
    stream = again.batches(3)
    for step in (3, 4):
        images = whole.batch(step).images
        np.testing.assert_array_equal(next(stream).images, images)
        apart = [part.batch(step).images for part in parts]
        np.testing.assert_array_equal(np.concatenate(apart), images)
        # What programs of several steps gather on a device is the same.
        picked = whole.picked(step)
        arrays = [getattr(whole.train, name) for name in OnDevice._fields]
        on_device = OnDevice(*jax.tree.map(jnp.asarray, arrays))
        fields = {"texts_per_image": 2, "pictures": picked.pictures}
        for name, array in gather(on_device, picked.rows, **fields).items():
            if array is not None:
                np.testing.assert_array_equal(array, getattr(whole.batch(step), name))
    assert not (mismatched(0.5, seed=1).batch(3).images == whole.batch(3).images).all()


def test_wrong_pictures_need_others():
    with pytest.raises(ValueError, match=r"data\.mismatched needs batches of at least two images"):
        mismatched(0.5, size=2)
    with pytest.raises(ValueError, match=r"data\.mismatched is a share in \[0, 1\), got 1"):
        Data(mismatched=1.0)
    with pytest.raises(ValueError, match=r"data\.mismatched is for source scenes and easy_vqa"):
        Data(source="tfds", mismatched=0.5)
