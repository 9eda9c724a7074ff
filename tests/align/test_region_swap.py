"""Regions whose content is another one: planted use, the order of patches, refusals."""

import numpy as np
import pytest

from crossattn.align import exchange_regions, region_swap_effect

N, P, F = 40, 10, 3
rng = np.random.default_rng(0)
PATCHES, DONORS = rng.normal(size=(2, N, P, F))
# Three patches of each image, and two others.
PLACES = np.argsort(rng.random((N, P)), axis=1)
REGION, OTHER = (np.zeros((N, P), bool) for _ in range(2))
np.put_along_axis(REGION, PLACES[:, :3], True, axis=1)
np.put_along_axis(OTHER, PLACES[:, 3:5], True, axis=1)


def test_two_regions_change_places_patch_by_patch():
    found = exchange_regions(PATCHES, REGION, OTHER)
    for image in range(N):
        one, two = np.flatnonzero(REGION[image]), np.flatnonzero(OTHER[image])
        want = PATCHES[image].copy()
        for a, b in zip(one[:2], two, strict=True):
            want[a], want[b] = PATCHES[image, b], PATCHES[image, a]
        np.testing.assert_array_equal(found[image], want)
    # The third patch of the larger region stays, and the same again brings all of them back.
    np.testing.assert_array_equal(exchange_regions(found, REGION, OTHER), PATCHES)
    np.testing.assert_array_equal(exchange_regions(PATCHES, OTHER, REGION), found)


def test_a_model_that_reads_the_region_is_told_from_one_that_reads_beside_it():
    inside = lambda x: (x[..., 0] * REGION).sum(axis=1)
    beside = lambda x: (x[..., 0] * ~REGION).sum(axis=1)
    own, donor = inside(PATCHES), inside(DONORS)
    found = region_swap_effect(inside, PATCHES, DONORS, REGION)
    for name, want in {"intact": own, "truth": donor, "random": own, "rest": own}.items():
        np.testing.assert_allclose(found[name], want, err_msg=name)
    found = region_swap_effect(beside, PATCHES, DONORS, REGION)
    np.testing.assert_array_equal(found["truth"], found["intact"])
    np.testing.assert_allclose(found["rest"], beside(DONORS))
    assert (found["random"] != found["intact"]).all()


def test_as_many_others_have_the_content_of_the_donor():
    """By a seed, and none of them in the region."""
    count = lambda x: (x == DONORS).all(axis=-1).sum(axis=1).astype(float)
    found = region_swap_effect(count, PATCHES, DONORS, REGION)
    assert [set(values) for values in found.values()] == [{0.0}, {3.0}, {3.0}, {P - 3.0}]
    which = lambda x: ((x == DONORS).all(axis=-1) * 2.0 ** np.arange(P)).sum(axis=1)
    one, again, other = (
        region_swap_effect(which, PATCHES, DONORS, REGION, seed=seed)["random"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: exchange_regions(PATCHES, REGION, REGION | OTHER), "overlap in 40 of 40 images"),
        (lambda: exchange_regions(PATCHES, REGION, OTHER & False), "other is empty in 40 of 40"),
        (lambda: exchange_regions(PATCHES, REGION[:, 1:], OTHER), r"region \(40, 9\): booleans"),
        (lambda: exchange_regions(PATCHES, REGION * 1.0, OTHER), "region"),
        (lambda: exchange_regions(PATCHES[0], REGION, OTHER), r"patches"),
        (
            lambda: region_swap_effect(len, PATCHES, DONORS[:, 1:], REGION),
            r"donors \(40, 9, 3\): images like patches \(40, 10, 3\)",
        ),
        (lambda: region_swap_effect(len, PATCHES, DONORS, ~REGION), "over half the positions"),
        (lambda: region_swap_effect(lambda x: x, PATCHES, DONORS, REGION), "score"),
        (lambda: region_swap_effect(lambda x: x[:, 0, 0] / 0, PATCHES, DONORS, REGION), "score"),
    ],
)
def test_what_does_not_fit_is_refused(unchecked, call, said):
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match=said):
        call()
