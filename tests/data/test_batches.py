"""The order of the data is a pure function of seed and step."""

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.batches import Order, flip, gather

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
