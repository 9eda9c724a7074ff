"""Pointing, mass, swap pairs, caption slots: by hand and by brute force."""

import numpy as np

from crossattn.align import (
    exact_match,
    mass_in_region,
    pointing,
    pointing_chance,
    slot_accuracy,
    swap_scores,
)

random = np.random.default_rng(0)
weights = random.dirichlet(np.ones(7), size=(3, 5))
region = random.random((3, 5, 7)) < 0.4
region[0, 0] = False


def test_pointing_by_brute_force():
    got = pointing(weights, region)
    for index in np.ndindex(3, 5):
        if not region[index].any():
            assert np.isnan(got[index])
        else:
            assert got[index] == region[index][np.argmax(weights[index])]
    assert set(np.unique(got[~np.isnan(got)])) == {0.0, 1.0}


def test_an_empty_attention_row_points_nowhere():
    assert pointing(np.zeros(3), np.array([True, False, False])) == 0


def test_chance_is_the_pointing_of_uniform_random_attention():
    draws = random.random((4000, 7))
    several = np.broadcast_to(region[1, 2], draws.shape)
    assert abs(pointing(draws, several).mean() - pointing_chance(region[1, 2])) < 0.03
    assert np.isnan(pointing_chance(region[0, 0]))


def test_mass():
    coverage = random.random((3, 5, 7)) * region
    got = mass_in_region(weights, coverage)
    assert np.isnan(got[0, 0])
    np.testing.assert_allclose(got[2, 1], np.dot(weights[2, 1], coverage[2, 1]))
    np.testing.assert_allclose(mass_in_region(weights, np.ones((3, 5, 7))), 1.0)


def test_swap_scores_need_strictly_better():
    blind = np.array([[[3.0, 3.0], [1.0, 1.0]]])
    assert all(score[0] == 0 for score in swap_scores(blind).values())
    only_text = np.array([[[2.0, 5.0], [1.0, 6.0]]])
    assert [swap_scores(only_text)[name][0] for name in ("text", "image", "group")] == [1, 0, 0]
    only_image = np.array([[[2.0, 1.0], [3.0, 9.0]]])
    assert [swap_scores(only_image)[name][0] for name in ("text", "image", "group")] == [0, 1, 0]


def test_captions():
    words = np.array([[1, 5, 6, 7, 2], [1, 5, 6, 2, 0]])
    said = np.array([[1, 5, 9, 7, 2], [1, 5, 6, 2, 4]])
    target = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0]], bool)
    slots = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 0]], bool)
    assert slot_accuracy(said, words, slots).tolist() == [0.5, 1.0]
    assert exact_match(said, words, target).tolist() == [0.0, 1.0]
