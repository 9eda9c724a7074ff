"""Same seed, same bytes, on any machine; different seeds and splits, different scenes."""

import hashlib

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.splitmix import SplitMix64

GOLDEN = {
    ("train", "oracle"): "9b495e95493847fc",
    ("train", "patch"): "73276603ed979152",
    ("validation", "oracle"): "63012eca0a47a436",
    ("validation", "patch"): "d7f80125b1878283",
    ("iid", "oracle"): "858dfb2a88ece237",
    ("iid", "patch"): "a8301867a47defac",
    ("pairs", "oracle"): "8465640d96e58f38",
    ("pairs", "patch"): "c0f907ccfd683e98",
    ("count", "oracle"): "e0d7d5806f29f795",
    ("count", "patch"): "843f70b3eee9741b",
    ("relations", "oracle"): "4bb3526bcce63ee9",
    ("relations", "patch"): "b8e4b16aea7000a1",
    ("swap", "oracle"): "977129a148385a8f",
    ("swap", "patch"): "c9c92e5796f6c41a",
    ("iid", "refer"): "4fca3cf52bf64956",
}
# Fields by the names under which their bytes were first counted.
FORMER = {"grounded": "objects", "group": "role"}
ARRAYS = ("images", "coverage", "image", "tokens", "target", "grounded", "group", "kind", "answer")


def digest(data):
    total = hashlib.sha256()
    for name in ARRAYS:
        array = getattr(data, name)
        little = array.astype(array.dtype.newbyteorder("<"))
        total.update(
            f"{FORMER.get(name, name)} {array.shape} {little.dtype.str}".encode() + little.tobytes()
        )
    return total.hexdigest()[:16]


def test_words_are_those_of_splitmix64():
    # The published first outputs for the state 1234567.
    stream = SplitMix64()
    stream._state = 1234567
    assert stream.words(3).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_one_draw_and_many_are_the_same_stream():
    items = range(1000)
    single, many = SplitMix64(3, 5), SplitMix64(3, 5)
    assert [single.pick(items) for _ in range(7)] == many.below(1000, 7).tolist()
    assert single.pick(items) == many.below(1000, 1)[0], "the states agree afterwards"
    assert sorted(SplitMix64(1).order(13).tolist()) == list(range(13))
    keys = [(), (0,), (0, 0), (1, 0), (0, 1), (1,)]
    assert len({int(SplitMix64(*key).words(1)[0]) for key in keys}) == len(keys)


@pytest.mark.parametrize("split", scenes.SPLITS)
@pytest.mark.parametrize("image_encoder", ["oracle", "patch"])
def test_bytes(split, image_encoder):
    data = scenes.examples(split, 100, seed=13, image_encoder=image_encoder, size=32)
    assert digest(data) == GOLDEN[split, image_encoder]


def test_bytes_of_references_at_full_size():
    tasks = ("question", "refer", "caption")
    data = scenes.examples("iid", 120, seed=13, tasks=tasks)
    assert digest(data) == GOLDEN["iid", "refer"]
    assert digest(scenes.examples("iid", 120, seed=13, tasks=tasks)) == digest(data)


def test_seeds_and_splits_share_no_scene():
    seen = set()
    chosen = [("train", 0), ("validation", 0), ("iid", 0), ("train", 1)]
    for split, seed in chosen:
        world = scenes.draw_scenes(split, 400, seed=seed)
        for n in range(400):
            seen.add(
                world.colour[n].tobytes() + world.shape[n].tobytes() + world.centre[n].tobytes()
            )
    assert len(seen) == 400 * len(chosen)


def test_perception_changes_only_the_images():
    oracle = scenes.examples("iid", 100, seed=1)
    pixels = scenes.examples("iid", 100, seed=1, image_encoder="conv")
    assert pixels.images.shape == (100, 64, 64, 3)
    assert pixels.images.dtype == np.uint8
    assert oracle.images.shape == (100, 64, 15)
    assert oracle.images.dtype == np.float32
    for name in ARRAYS[1:]:
        np.testing.assert_array_equal(getattr(oracle, name), getattr(pixels, name))


def test_tasks_choose_rows_of_the_same_scenes():
    both = scenes.examples("iid", 100, seed=1)
    captions = scenes.examples("iid", 100, seed=1, tasks=("caption",))
    np.testing.assert_array_equal(both.images, captions.images)
    np.testing.assert_array_equal(both.tokens[100:], captions.tokens)
    assert captions.chance == {}
