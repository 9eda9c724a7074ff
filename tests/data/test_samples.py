"""What a report shows of data: true pictures, texts and regions of every part, and their counts."""

import dataclasses

import numpy as np
import pytest

from crossattn.data.dataset import Dataset
from crossattn.data.examples import Examples
from crossattn.data.scenes import draw_scenes
from crossattn.data.sources import Data, load_source

SCENES = Data(images=100, evaluation_images=100)


@pytest.fixture(scope="module")
def scenes():
    return load_source(SCENES, "oracle")


def test_every_part_has_a_sample_and_a_sentence(scenes):
    parts = ["train", *scenes.splits]
    assert [sample.part for sample in scenes.samples] == parts
    said = scenes.describe()
    assert said["about"].startswith("Pictures are generated")
    assert list(said["parts"]) == parts
    assert all(part["about"] for part in said["parts"].values())
    train = said["parts"]["train"]
    assert train["images"] == 100
    assert sum(train["texts"].values()) == len(scenes.train)
    assert said["parts"]["count"]["texts"] == {"count": 100}


def test_a_sample_is_the_picture_of_its_own_part(scenes):
    """Another seed, split or number would be another picture."""
    for sample in scenes.samples:
        drawn = draw_scenes(sample.part, 100, seed=0)
        every = np.arange(100)
        pictures, masks = drawn.render(every), drawn.outlines(every)
        (found,) = np.flatnonzero((pictures == sample.pixels).all(axis=(1, 2, 3)))
        given, wanted = sample.texts[0]
        question = drawn.questions[found]
        if question is not None:
            assert given == question.text()
            assert wanted == question.answer
        inside = np.unique(masks[found][sample.region])
        assert 0 not in inside
        # Whole objects, those that the answer is about.
        assert (np.isin(masks[found], inside) == sample.region).all()
        if question is not None and question.kind in ("colour", "shape"):
            assert len(inside) == 1


def test_samples_are_the_same_in_every_process(scenes):
    again = load_source(SCENES, "oracle").samples
    for one, other in zip(scenes.samples, again, strict=True):
        assert one.texts == other.texts
        np.testing.assert_array_equal(one.pixels, other.pixels)
        np.testing.assert_array_equal(one.region, other.region)
    assert scenes.samples is scenes.samples


def test_a_source_that_says_nothing_has_counts_and_pictures():
    blank = np.zeros((3, 4, 2), np.float32)
    words = Examples(
        images=blank,
        coverage=np.ones((3, 1, 4), np.float32),
        image=np.arange(3, dtype=np.int32),
        tokens=np.array([[1, 2, 3]] * 3, np.int32),
        target=np.array([[False, False, True]] * 3),
        grounded=np.zeros((3, 3, 1), bool),
        kind=np.zeros(3, np.int8),
        answer=np.full(3, 2, np.int32),
        vocabulary=("<pad>", "<bos>", "what", "that"),
        kinds=("thing",),
        grid=(2, 2),
        chance={"thing": 1.0},
    )
    source = Dataset(words, {"validation": words, "test": words}, main="test")
    assert source.describe() == {
        "about": "",
        "parts": {
            name: {"images": 3, "texts": {"thing": 3}, "about": ""}
            for name in ("train", "validation", "test")
        },
    }
    for sample in source.samples:
        assert sample.texts == (("what", "that"),)
        assert sample.pixels.shape == (16, 16, 3)
        assert not sample.region.any()


def test_a_part_whose_pictures_do_not_fit_is_named(scenes):
    draw = {**scenes.draw, "pairs": lambda images: np.zeros((len(images), 8, 8, 3), np.uint8)}
    with pytest.raises(ValueError, match=r"^pairs: pictures are uint8 \(1, 8, 8, 3\)"):
        dataclasses.replace(scenes, draw=draw).check(pixels=False, boxes=False)
