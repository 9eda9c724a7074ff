"""Pictures, masks, coverage and features tell of the same scene."""

import functools

import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.scenes import images as scene_images
from crossattn.data.scenes.language import COLOURS, SHAPES


@functools.cache
def world(split, size, seed=7):
    return scenes.draw_scenes(split, 100, seed=seed, size=size)


def patches(maps):
    """Cut maps (n, size, size, ...) into 64 patches (n, 64, pixels, ...)."""
    side = maps.shape[1] // 8
    cut = maps.reshape(len(maps), 8, side, 8, side, *maps.shape[3:]).swapaxes(2, 3)
    return cut.reshape(len(maps), 64, side * side, *maps.shape[3:])


@pytest.mark.parametrize("split", ["train", "count", "swap"])
@pytest.mark.parametrize("size", [32, 64])
def test_coverage_is_the_patch_mean_of_the_masks(split, size):
    drawn = world(split, size)
    cut = patches(drawn.masks)
    for thing in range(6):
        expected = (cut == thing + 1).mean(-1)
        np.testing.assert_array_equal(drawn.coverage[:, thing], expected)
    there = drawn.coverage.sum(-1) > 0
    np.testing.assert_array_equal(there, drawn.colour >= 0)
    np.testing.assert_array_equal(there, drawn.shape >= 0)


@pytest.mark.parametrize("size", [32, 64])
def test_pixels_show_the_masks_and_the_colours(size):
    drawn = world("count", size)
    pixels = drawn.render(np.arange(100)).astype(np.int64)
    paint = np.concatenate([np.full((1, 3), scene_images.DARK), scene_images.PALETTE])
    nearest = ((pixels[..., None, :] - paint) ** 2).sum(-1).argmin(-1)
    label = np.concatenate([np.zeros((100, 1), np.int64), drawn.colour + 1], 1)
    np.testing.assert_array_equal(nearest, label[np.arange(100)[:, None, None], drawn.masks])


def test_no_object_covers_another_or_is_cut():
    drawn = world("count", 64)
    area = {}
    for n, o in zip(*np.nonzero(drawn.colour >= 0), strict=True):
        key = drawn.shape[n, o], drawn.radius[n, o]
        area.setdefault(key, set()).add(int((drawn.masks[n] == o + 1).sum()))
    assert len(area) == 24
    assert all(len(sizes) == 1 for sizes in area.values())
    rim = np.ones((64, 64), bool)
    rim[1:-1, 1:-1] = False
    assert not drawn.masks[:, rim].any(), "ground all around"


def test_every_relation_is_decided():
    for split in ("train", "count", "pairs", "relations", "swap"):
        drawn = world(split, 64)
        for n in range(100):
            there = drawn.colour[n] >= 0
            spot, radius = drawn.centre[n][there], drawn.radius[n][there]
            assert set(radius.tolist()) <= {6, 7, 8, 9}
            apart = np.abs(spot[:, None] - spot)[~np.eye(len(spot), dtype=bool)]
            circles = (radius[:, None] + radius)[~np.eye(len(spot), dtype=bool)]
            assert apart.min() >= 3
            assert ((apart**2).sum(-1) >= (circles + 3) ** 2).all()


def test_masks_lie_around_their_centres():
    drawn = world("count", 64)
    middle = np.arange(64) + 0.5
    for n, o in zip(*np.nonzero(drawn.colour >= 0), strict=True):
        mask = drawn.masks[n] == o + 1
        found = [mask.sum(0) @ middle / mask.sum(), mask.sum(1) @ middle / mask.sum()]
        np.testing.assert_allclose(found, drawn.centre[n, o], atol=0.75)


def test_shapes_are_what_they_are_called():
    drawn = world("count", 64)
    for n, o in zip(*np.nonzero(drawn.colour >= 0), strict=True):
        (x, y), r = drawn.centre[n, o], int(drawn.radius[n, o])
        mask = drawn.masks[n] == o + 1
        name = SHAPES[drawn.shape[n, o]]
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        filled = mask.sum() / (len(rows) * len(columns))
        assert mask[y, x] == (name != "ring")
        assert np.isclose(mask.sum(), np.pi * r**2, rtol=0.05) == (name == "circle")
        assert (filled == 1) == (name == "square")
        if name == "triangle":
            assert (np.diff(mask.sum(1)[rows]) >= 0).all()
            assert len(columns) > 1.5 * r
        if name == "cross":
            assert {len(columns), mask[rows[0]].sum()} == set(mask.sum(1)[rows].tolist())
        if name == "star":
            assert mask.sum(1)[rows].argmax() < len(rows) / 2
            assert filled < 0.55


@pytest.mark.parametrize("size", [32, 64])
def test_clean_features_are_what_a_patch_shows(size):
    drawn = world("train", size)
    given = drawn.features(np.arange(100), noise=0.0)
    cut = patches(drawn.masks)
    label = np.arange(100)[:, None, None], cut
    for names, attribute, first in ((COLOURS, drawn.colour, 0), (SHAPES, drawn.shape, 6)):
        of = np.concatenate([np.full((100, 1), -1), attribute], 1)[label]
        for value in range(len(names)):
            np.testing.assert_array_equal(given[..., first + value], (of == value).mean(-1))
    np.testing.assert_array_equal(given[..., 12], (cut > 0).mean(-1))
    side = size // 8
    offset = (np.arange(side) - (side - 1) / 2) / (side / 4)
    y, x = (part.ravel() for part in np.meshgrid(offset, offset, indexing="ij"))
    np.testing.assert_array_equal(given[..., 13], ((cut > 0) * x).mean(-1))
    np.testing.assert_array_equal(given[..., 14], ((cut > 0) * y).mean(-1))
    assert given.shape == (100, 64, scene_images.FEATURES)
    assert given.dtype == np.float32


def test_noise_is_nearly_normal_and_belongs_to_the_scene():
    drawn = world("train", 64)
    noise = drawn.features(np.arange(100), noise=0.2) - drawn.features(np.arange(100), noise=0.0)
    count = noise.size
    assert abs(noise.mean()) < 4 * 0.2 / count**0.5
    assert abs(noise.std() - 0.2) < 0.002
    assert abs((np.abs(noise) < 0.2).mean() - 0.68) < 0.03
    assert len(np.unique(noise[0])) > 900
    assert not np.array_equal(noise[0], noise[1])
    few = np.array([17, 3])
    np.testing.assert_array_equal(
        drawn.features(few, noise=0.2), drawn.features(np.arange(100), noise=0.2)[few]
    )
    np.testing.assert_array_equal(drawn.render(few), drawn.render(np.arange(100))[few])


def test_both_sizes_show_the_same_scene():
    small, large = world("train", 32), world("train", 64)
    np.testing.assert_array_equal(small.centre, large.centre)
    assert [small.pairs(n) for n in range(100)] == [large.pairs(n) for n in range(100)]
    assert np.abs(small.coverage - large.coverage).max() < 0.5
    assert np.abs(small.coverage.sum(-1) - large.coverage.sum(-1)).max() < 1.25
