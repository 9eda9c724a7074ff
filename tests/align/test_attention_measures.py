"""Pointing, mass, swap pairs, caption slots: by hand and by brute force."""

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import scipy.stats

from crossattn import align
from crossattn.align import (
    exact_match,
    mass_in_region,
    normalized_entropy,
    pointing,
    pointing_chance,
    slot_accuracy,
    swap_scores,
)
from crossattn.align.evidence import Evidence
from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import MEASURES

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


def test_entropy_is_scipys_in_units_of_uniform_attention():
    visible = random.random((3, 5, 7)) < 0.7
    visible[..., :2] = True
    seen = np.where(visible, weights, 0)
    entropy = scipy.stats.entropy(seen, axis=-1) / np.log(visible.sum(axis=-1))
    np.testing.assert_allclose(normalized_entropy(seen, visible), entropy, rtol=0, atol=1e-10)
    assert normalized_entropy(np.array([0.0, 1.0])) == 0
    assert normalized_entropy(np.full(6, 1 / 6)) == pytest.approx(1)
    assert np.isnan(normalized_entropy(np.zeros(6)))
    assert np.isnan(normalized_entropy(np.eye(2)[0], np.array([True, False])))


def test_what_a_report_has_of_attention():
    """Uniform attention is at every level of chance; a row of zeros breaks nothing."""
    region = np.arange(8) < np.array([[2], [4], [8]])
    rows = lambda weights: AttentionMaps(
        weights, np.zeros((3, 2), int), np.ones(3), region, region.astype(float)
    )
    for weights in (np.full((3, 8), 1 / 8), np.zeros((3, 8))):
        evidence = Evidence()
        evidence.read("answer", rows(weights))
        for name in ("auc", "entropy"):
            assert evidence.metrics[f"{name}/answer"] == evidence.chance[f"{name}/answer"]
    assert evidence.metrics["aer/answer"] == 1  # no links at all
    assert len(evidence.items["auc/answer"]) == 2  # the third region is the whole picture
    evidence.read("answer", rows(region / region.sum(axis=1, keepdims=True)))
    assert evidence.metrics["auc/answer"] == 1
    assert evidence.metrics["aer/answer"] == pytest.approx(1 - 6 / 17)


def test_heads_agree_where_they_look_at_the_same_patch():
    """Three heads are three pairs; one that sees nothing agrees with none, one alone has none."""
    peaks = np.array([[4, 4, 4], [4, 4, 1], [0, 1, 2], [-1, -1, -1], [-1, 3, 3]])
    where = np.ones((5, 8)) / 8, np.ones(5), np.eye(8, dtype=bool)[:5], np.eye(8)[:5]
    maps = lambda peaks: AttentionMaps(where[0], peaks, *where[1:])
    evidence = Evidence()
    evidence.read("answer", maps(peaks))
    expected = [1, 1 / 3, 0, 0, 1 / 3]
    np.testing.assert_allclose(evidence.items["head_agreement/answer"], expected, atol=1e-7)
    drawn = np.random.default_rng(0).integers(0, 8, (40_000, 2))
    same = float(np.mean(drawn[:, 0] == drawn[:, 1]))
    assert evidence.chance["head_agreement/answer"] == pytest.approx(same, abs=0.01)
    alone = Evidence()
    alone.read("answer", maps(peaks[:, :1]))
    assert "head_agreement/answer" not in alone.metrics


@pytest.mark.parametrize(
    ("undefined", "weights", "coverage"),
    [
        ("entropy", [[1.1, -0.1, 0.0]], [[1.0, 0.0, 0.0]]),  # talking heads mix their weights
        ("aer", [[0.0, 0.0, 0.0]], [[0.4, 0.0, 0.0]]),  # nothing is seen, no patch is sure
    ],
)
def test_a_report_has_no_number_where_a_measure_is_not_defined(undefined, weights, coverage):
    weights, coverage = np.array(weights), np.array(coverage)
    evidence = Evidence()
    maps = AttentionMaps(weights, np.zeros((1, 1), int), np.ones(1), coverage > 0, coverage)
    evidence.read("answer", maps)
    assert f"{undefined}/answer" not in evidence.metrics
    assert {"pointing/answer", "auc/answer"} <= evidence.metrics.keys()
    assert np.isfinite(list(evidence.metrics.values())).all()


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


def bare():
    """The measures as users run them: annotations are checked in tests only."""
    found = {}
    with mock.patch.dict(MEASURES, clear=True):
        for name in ("attention", "captions", "pairs"):
            source = Path(align.__file__).with_name(f"{name}.py")
            exec(compile(source.read_text(), str(source), "exec"), found)
    return found


BARE = bare()
WORDS = np.ones((2, 3), int)
YES = np.ones((2, 3), bool)
SHARES = np.full((2, 3), 0.5)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("swap_scores", (np.ones((3, 2, 3)),), r"shape \(3, 2, 3\): \(N, 2, 2\) is meant"),
        ("swap_scores", (np.ones((3, 3, 2)),), r"shape \(3, 3, 2\)"),
        ("swap_scores", (np.ones((2, 2)),), r"shape \(2, 2\)"),
        ("swap_scores", (np.ones((1, 3, 2, 2)),), r"shape \(1, 3, 2, 2\)"),
        ("swap_scores", (np.full((1, 2, 2), np.nan),), "score has 4 of 4 numbers that are not"),
        ("swap_scores", (np.full((1, 2, 2), -np.inf),), "not finite"),
        ("swap_scores", (np.ones((1, 2, 2), bool),), "score has numbers, got bool"),
        (
            "pointing",
            (
                SHARES,
                YES[:, :1],
            ),
            r"weights \(2, 3\), region \(2, 1\): one shape",
        ),
        (
            "pointing",
            (
                SHARES,
                YES[:1],
            ),
            r"region \(1, 3\)",
        ),
        (
            "pointing",
            (
                SHARES * np.nan,
                YES,
            ),
            "weights has 6 of 6 numbers",
        ),
        (
            "pointing",
            (
                SHARES,
                WORDS,
            ),
            "region is boolean, got int64: write region > 0",
        ),
        ("pointing_chance", (WORDS,), "region is boolean"),
        (
            "mass_in_region",
            (
                SHARES,
                SHARES[:, :1],
            ),
            r"coverage \(2, 1\): one shape",
        ),
        (
            "mass_in_region",
            (
                SHARES,
                4 * SHARES,
            ),
            "0 to 1, got 2 to 2",
        ),
        (
            "mass_in_region",
            (
                SHARES,
                -SHARES,
            ),
            "got -0.5 to -0.5",
        ),
        ("normalized_entropy", (-SHARES,), "weights is at least 0, got -0.5"),
        ("normalized_entropy", (SHARES, ~YES), "above 0 where nothing is visible"),
        ("normalized_entropy", (SHARES, YES[0]), r"region \(3,\): one shape"),
        (
            "slot_accuracy",
            (
                WORDS,
                WORDS[:1],
                YES,
            ),
            r"words \(1, 3\), slots \(2, 3\)",
        ),
        (
            "slot_accuracy",
            (
                WORDS[0],
                WORDS[0],
                YES[0],
            ),
            r"one shape \(E, T\) is meant",
        ),
        (
            "slot_accuracy",
            (
                WORDS,
                WORDS,
                WORDS,
            ),
            "slots is boolean",
        ),
        (
            "exact_match",
            (
                WORDS,
                WORDS,
                YES[:, :2],
            ),
            r"target \(2, 2\)",
        ),
        (
            "exact_match",
            (
                WORDS,
                WORDS,
                WORDS,
            ),
            "target is boolean",
        ),
    ],
)
def test_what_numpy_would_broadcast_or_compare_in_silence_is_refused(name, given, said):
    with pytest.raises(ValueError, match=said):
        BARE[name](*given)


def test_lists_are_arrays():
    assert BARE["swap_scores"]([[[2, 0], [1, 3]]])["group"].tolist() == [1.0]
    assert BARE["pointing"]([0.2, 0.8], [False, True]) == 1
