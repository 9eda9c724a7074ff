"""Attention as a saliency map, overlap and links: other implementations' numbers, brute force."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossattn import align
from crossattn.align import (
    alignment_error_chance,
    alignment_error_rate,
    attention_iou,
    attention_iou_chance,
    average_precision,
    best_iou,
    kl_from_region,
    links_from_coverage,
    nss,
    pearson_cc,
    roc_auc,
    saliency_chance,
    similarity,
    soft_alignment_error_rate,
    strongest_links,
)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "measures"
random = np.random.default_rng(0)
weights = random.integers(0, 5, (40, 9)).astype(float)  # many ties
region = random.random((40, 9)) < 0.4
region[:, 0], region[:, 1] = True, False
SALIENCY = {
    "auc": roc_auc,
    "ap": average_precision,
    "nss_mean_over_mask": nss,
    "cc_mask_density": pearson_cc,
    "sim_mask_density": similarity,
    "kl_eps1e-20": kl_from_region,
    "mit_kl": lambda w, d: kl_from_region(w, d, epsilon=2.2204e-16),
}


@pytest.mark.parametrize("name", SALIENCY)
def test_scikit_learn_and_pysaliency(name):
    pinned = np.load(FIXTURES / "saliency_metrics.npz")
    maps, masks = (pinned[name].reshape(20, 64) for name in ("maps", "masks"))
    truth = masks if name in ("auc", "ap", "nss_mean_over_mask") else masks.astype(float)
    np.testing.assert_allclose(SALIENCY[name](maps, truth), pinned[name], rtol=0, atol=1e-10)
    halves = SALIENCY[name](maps.astype(np.float32).reshape(4, 5, 64), truth.reshape(4, 5, 64))
    np.testing.assert_allclose(halves.ravel(), pinned[name], rtol=0, atol=1e-6)


def test_ranks_of_ties_by_brute_force():
    for w, g, auc, ap in zip(
        weights, region, roc_auc(weights, region), average_precision(weights, region), strict=True
    ):
        pairs = [(a > b) + (a == b) / 2 for a in w[g] for b in w[~g]]
        assert auc == pytest.approx(np.mean(pairs))
        assert ap == pytest.approx(np.mean([g[w >= a].mean() for a in w[g]]))


def test_overlap_by_brute_force():
    for w, g, best in zip(weights, region, best_iou(weights, region), strict=True):
        tried = [(g & (w >= t)).sum() / (g | (w >= t)).sum() for t in np.unique(w)]
        assert best == pytest.approx(max(tried))
    untied = random.permuted(np.tile(np.arange(9.0), (40, 1)), axis=1)
    for w, g, iou in zip(untied, region, attention_iou(untied, region), strict=True):
        chosen = w > np.quantile(w, 1 - g.mean())
        assert iou == (chosen & g).sum() / (chosen | g).sum()


def test_constant_and_random_maps_are_at_chance():
    """Random ones on the average, for what is linear in ranks."""
    for name, level in saliency_chance(region.astype(float)).items():
        short = {"auc": roc_auc, "ap": average_precision, "nss": nss}
        if name in short:
            np.testing.assert_array_equal(short[name](np.full((40, 9), 0.1), region), level)
    shuffled = random.permuted(np.tile(np.arange(9.0), (4000, 1)), axis=1)
    one = np.broadcast_to(region[3], shuffled.shape)
    assert abs(roc_auc(shuffled, one).mean() - 0.5) < 0.01
    assert abs(nss(shuffled, one).mean()) < 0.03
    assert abs(pearson_cc(shuffled, one.astype(float)).mean()) < 0.03
    assert abs(attention_iou(shuffled, one).mean() - attention_iou_chance(region[3])) < 0.01
    assert attention_iou_chance(np.arange(2000) < 1000) == pytest.approx(1 / 3, abs=1e-3)


def test_what_is_not_defined_is_nan_and_a_row_of_zeros_looks_nowhere():
    none, all_of_it = np.zeros(4, bool), np.ones(4, bool)
    some, zeros, flat = np.array([True, False, False, False]), np.zeros(4), np.full(4, 0.1)
    for measure in (roc_auc, average_precision, nss):
        assert np.isnan(measure(flat, none))
        assert np.isnan(measure(flat, all_of_it))
    for measure in (attention_iou, best_iou):
        assert np.isnan(measure(flat, none))
        assert measure(zeros, some) == 0
    assert np.isnan([f(flat, zeros) for f in (pearson_cc, similarity, kl_from_region)]).all()
    assert similarity(zeros, some.astype(float)) == 0
    assert kl_from_region(zeros, some.astype(float)) == pytest.approx(-np.log(1e-20))
    assert best_iou(flat, some) == attention_iou(flat, some) == 0.25


@pytest.mark.parametrize("case", json.loads((FIXTURES / "nltk_aer.json").read_text()))
def test_nltk(case):
    attention = np.array(case["attn"])
    sure, possible = np.zeros((2, *attention.shape), bool)
    sure[tuple(np.transpose(case["sure"]))] = possible[tuple(np.transpose(case["possible"]))] = True
    links = strongest_links(attention)
    assert np.argwhere(links).tolist() == case["hyp"]
    assert abs(alignment_error_rate(links, sure, possible) - case["aer"]) < 1e-10
    assert abs(alignment_error_rate(links, sure, sure) - case["aer_sure_only"]) < 1e-10
    heads = np.stack([links, links])
    both = alignment_error_rate(heads, np.stack([sure] * 2), np.stack([possible] * 2))
    np.testing.assert_allclose(both, case["aer"], rtol=0, atol=1e-10)
    soft = soft_alignment_error_rate(links.astype(float), sure, possible)
    assert soft == alignment_error_rate(links, sure, possible)


def test_random_links_are_at_chance():
    sure, possible = links_from_coverage(random.random((6, 8)) * (random.random((6, 8)) < 0.5))
    rates = [
        alignment_error_rate(strongest_links(random.random((6, 8))), sure, possible)
        for _ in range(500)
    ]
    assert abs(np.mean(rates) - alignment_error_chance(sure, possible)) < 0.02
    nothing = np.zeros((2, 3), bool)
    assert np.isnan(alignment_error_rate(nothing, nothing, nothing))


HALF = np.full((2, 3), 0.5)
YES = np.ones((2, 3), bool)


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("roc_auc", (HALF, YES[:1]), r"weights \(2, 3\), region \(1, 3\): one shape"),
        ("roc_auc", (HALF * np.nan, YES), "weights has 6 of 6 numbers that are not finite"),
        ("nss", (HALF, YES.astype(int)), "region is boolean, got int64: write region > 0"),
        ("average_precision", (HALF[:, :0], YES[:, :0]), r"\(2, 0\): an array \(..., P\) with"),
        ("pearson_cc", (HALF, -HALF), "density is at least 0, got -0.5"),
        ("similarity", (-HALF, HALF), "weights is at least 0, got -0.5"),
        ("similarity", (HALF, YES), "density has numbers, got bool"),
        ("kl_from_region", (HALF, HALF[0]), r"density \(3,\): one shape"),
        ("attention_iou", (HALF, YES[0]), r"region \(3,\): one shape"),
        ("best_iou", (HALF * np.inf, YES), "not finite"),
        ("attention_iou_chance", (HALF,), "region is boolean"),
        ("alignment_error_rate", (YES, YES, ~YES), "6 of 6 sure links are not possible"),
        ("alignment_error_rate", (HALF, YES, YES), "links is boolean"),
        ("soft_alignment_error_rate", (-HALF, YES, YES), "at least 0, got -0.5"),
        ("soft_alignment_error_rate", (HALF[0], YES[0], YES[0]), r"one shape \(..., T, S\)"),
        ("alignment_error_chance", (HALF, YES), "sure is boolean"),
        ("strongest_links", (HALF[0],), r"\(3,\): an array \(..., T, S\) with entries"),
        ("links_from_coverage", (HALF * np.nan,), "coverage has 6 of 6"),
    ],
)
def test_what_is_not_meant_is_refused(name, given, said, unchecked):
    with pytest.raises(ValueError, match=said):
        getattr(align, name)(*given)


def test_an_epsilon_is_above_zero():
    with pytest.raises(ValueError, match="epsilon is above 0, got 0"):
        kl_from_region(HALF, HALF, epsilon=0.0)
