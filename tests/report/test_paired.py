"""The statistics equal independent implementations, and whole suites keep their error rates."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crossattn.report.stats.aggregate import iqm, iqm_interval, probability_of_improvement
from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap, hierarchical_bootstrap
from crossattn.report.stats.holm import holm_adjusted, holm_levels
from crossattn.report.stats.paired import compare_paired, paired_t, sign_flip, t_interval, winners

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


@pytest.fixture(scope="module")
def paired():
    return json.loads((FIXTURES / "paired_stats.json").read_text())


@pytest.fixture(scope="module")
def rliable():
    return json.loads((FIXTURES / "rliable.json").read_text())


def differences(paired):
    return np.array(paired["a"]) - np.array(paired["b"])


def test_paired_t_equals_scipy(paired):
    assert paired_t(differences(paired)) == pytest.approx(paired["paired_t"], abs=1e-10)


def test_sign_flip_is_exact(paired):
    assert sign_flip(differences(paired)) == paired["signflip_exact_p_two_sided"]


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_sign_flip_has_a_floor(seeds):
    assert sign_flip(np.linspace(1, 2, seeds)) == 2.0 ** (1 - seeds)


def test_sign_flip_is_not_tried_with_very_many_seeds():
    assert np.isnan(sign_flip(np.ones((3, 17)))).tolist() == [True] * 3


def test_bootstrap_without_items_is_the_percentile_bootstrap(paired):
    draws = hierarchical_bootstrap(differences(paired)[:, None], bootstrap=Bootstrap(20_000))
    interval = np.quantile(draws, [0.025, 0.975])
    # The fixture is about 0.02 wide: 0.001 tells it from the BCa interval, 0.01 would not.
    assert interval == pytest.approx(paired["percentile95"], abs=1e-3)


def test_bootstrap_resamples_seeds_and_items():
    """The variance of the draws is that of crossed resampling, to within its own noise."""
    rng = np.random.default_rng(0)
    seeds, items = 5, 31
    D = rng.normal(size=(seeds, items)) + rng.normal(size=(seeds, 1)) + rng.normal(size=items)
    draws = hierarchical_bootstrap(D, bootstrap=Bootstrap(20_000))
    by_seed, by_item = D.mean(1).var() / seeds, D.mean(0).var() / items
    rest = (D - D.mean(1, keepdims=True) - D.mean(0) + D.mean()).var() / (seeds * items)
    assert draws.mean() == pytest.approx(D.mean(), abs=0.02)
    assert draws.var() == pytest.approx(by_seed + by_item + rest, rel=0.05)


def test_chunks_of_resamples_change_nothing_before_them():
    D = np.random.default_rng(0).normal(size=(3, 7))
    few, many = (hierarchical_bootstrap(D, bootstrap=Bootstrap(n)) for n in (512, 700))
    np.testing.assert_array_equal(few, many[:512])


def test_holm_equals_statsmodels(paired):
    p = np.array(paired["pvalues"])
    wanted = paired["multiple"]["holm"]
    np.testing.assert_allclose(holm_adjusted(p), wanted["p_adj"], rtol=0, atol=1e-10)
    shuffled = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_allclose(
        holm_adjusted(p[shuffled]), np.array(wanted["p_adj"])[shuffled], atol=1e-10
    )
    assert (p <= holm_levels(p, alpha=0.05)).tolist() == wanted["reject"]


def test_holm_levels_reject_as_holm_does():
    p = np.random.default_rng(0).random((1000, 7)) ** 4
    np.testing.assert_array_equal(p < holm_levels(p, alpha=0.05), holm_adjusted(p) < 0.05)
    assert (holm_levels(p, alpha=0.05) <= 0.05).all()


def test_iqm_equals_rliable(rliable):
    for name, scores in rliable["scores"].items():
        scores = np.array(scores)
        column = rliable["aggregate"].index("iqm")
        assert iqm(scores) == pytest.approx(rliable["point"][name][column], abs=1e-10)
        wanted = np.array(rliable["ci95_percentile_stratified_reps2000"][name])[:, column]
        assert iqm_interval(scores) == pytest.approx(wanted, abs=0.01)


def test_probability_of_improvement_equals_rliable(rliable):
    for pair, wanted in rliable["prob_improvement"].items():
        scores = [np.array(rliable["scores"][name]) for name in pair.split(",")]
        assert probability_of_improvement(*scores) == pytest.approx(wanted, abs=1e-10)


def test_ties_are_half_an_improvement():
    assert probability_of_improvement(np.zeros((3, 2)), np.zeros((5, 2))) == 0.5


def test_t_interval_and_t_test_agree():
    values = np.random.default_rng(0).normal(size=(11, 5))
    _, p = paired_t(values)
    low, high = t_interval(values, alpha=p)
    # At level 1 - p the interval just touches 0.
    np.testing.assert_allclose(np.minimum(abs(low), abs(high)), 0, atol=1e-12)


def test_interval_is_the_wider_and_p_the_larger():
    rng = np.random.default_rng(0)
    items = (rng.random((2, 3, 5, 61)) < 0.6) * 1.0
    found = compare_paired(items[0], items[1])
    by_seed = (items[0] - items[1]).mean(-1)
    draws = hierarchical_bootstrap(items[0] - items[1])
    low, high = t_interval(by_seed, alpha=1 - found.confidence)
    quantiles = [
        np.quantile(row, [(1 - level) / 2, (1 + level) / 2])
        for row, level in zip(draws, found.confidence, strict=True)
    ]
    np.testing.assert_allclose(found.low, np.minimum(low, np.array(quantiles)[:, 0]), atol=1e-12)
    np.testing.assert_allclose(found.high, np.maximum(high, np.array(quantiles)[:, 1]), atol=1e-12)
    tails = np.minimum((draws <= 0).sum(-1), (draws >= 0).sum(-1))
    by_bootstrap = np.minimum(1, 2 * (tails + 1) / (BOOTSTRAP.resamples + 1))
    by_t = stats.ttest_1samp(by_seed, 0, axis=1).pvalue
    np.testing.assert_allclose(found.p, np.maximum(by_bootstrap, by_t), atol=1e-10)
    np.testing.assert_array_equal(found.p_holm, holm_adjusted(found.p))


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_no_spread_gives_numbers_and_no_warning(gap):
    found = compare_paired(np.full((2, 3, 7), gap), np.zeros((2, 3, 7)))
    for field in (found.difference, found.low, found.high):
        assert field.tolist() == [gap, gap]
    assert found.winner.tolist() == [gap, gap]
    assert np.isfinite(found.p).all()
    assert (found.p == 1).all() == (gap == 0)


def test_seeds_that_agree_do_not_hide_the_doubt_about_items():
    """Deterministic variants: no spread over seeds, but two items in eleven prove nothing."""
    variant = np.zeros((1, 5, 11))
    variant[..., :2] = 1
    found = compare_paired(variant, np.zeros_like(variant))
    assert found.p[0] > 0.05
    assert found.low[0] <= 0 < found.high[0]


def test_one_seed_names_nobody():
    found = compare_paired(np.ones((2, 1, 100)), np.zeros((2, 1, 100)))
    assert found.difference.tolist() == [1, 1]
    assert found.p.tolist() == found.p_holm.tolist() == [1, 1]
    assert np.isnan([found.low, found.high]).all()
    assert found.winner.tolist() == [0, 0]


def test_winner_needs_the_interval_and_the_p_value():
    low, high = np.array([0.1, 0.1, -0.1, -0.2]), np.array([0.2, 0.2, 0.1, -0.1])
    assert winners(low, high, np.array([0.01, 0.06, 0.01, 0.01])).tolist() == [1, 0, 0, -1]


def test_same_numbers_every_time():
    items = np.random.default_rng(0).random((2, 3, 5, 61))
    first, second = compare_paired(items[0], items[1]), compare_paired(items[0], items[1])
    np.testing.assert_array_equal(first.low, second.low)
    np.testing.assert_array_equal(first.p, second.p)


@pytest.mark.parametrize(
    ("shape", "alpha", "message"),
    [((1, 3, 0), 0.05, "nothing to compare"), ((1, 3, 5), 1.5, "alpha must lie")],
)
def test_refusals(shape, alpha, message):
    with pytest.raises(ValueError, match=message):
        compare_paired(np.zeros(shape), np.zeros(shape), alpha=alpha)
    with pytest.raises(ValueError, match="resamples"):
        Bootstrap(resamples=0)
    with pytest.raises(ValueError, match="at least 2 seeds"):
        paired_t(np.zeros((2, 1)))


# Whole suites, simulated: items differ in difficulty, seeds by a deviation in logits. The same
# `compare` and the same rule name winners as in a report.

ITEMS = 300
BATCH = 100


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def simulate(rng, *, comparisons, seeds, deviation, centre, shift=0.0):
    """Scores of all variants and of the baseline they share; only the first differs, by `shift`."""
    logits = rng.normal(centre, 1, (BATCH, 1, 1, ITEMS))
    logits = logits + deviation * rng.normal(size=(BATCH, comparisons + 1, seeds, 1))
    logits[:, 1] += shift
    scores = (rng.random(logits.shape) < sigmoid(logits)) * 1.0
    return scores[:, 1:], np.broadcast_to(scores[:, :1], scores[:, 1:].shape)


def false_winners(suites, *, seeds, deviation):
    rng = np.random.default_rng(1)
    count = 0
    for _ in range(suites // BATCH):
        pair = simulate(rng, comparisons=6, seeds=seeds, deviation=deviation, centre=0.5)
        count += (compare_paired(*pair).winner != 0).any(-1).sum()
    return count


@pytest.mark.parametrize("seeds", [3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("deviation", [0.0, 0.2, 0.5])
def test_identical_variants_seldom_name_a_winner(seeds, deviation):
    """At most 5 % of suites with six comparisons, allowing for the noise of 400 suites."""
    suites = 400
    count = false_winners(suites, seeds=seeds, deviation=deviation)
    assert stats.binom.sf(count - 1, suites, 0.05) > 0.01, count / suites


def test_bootstrap_alone_would_name_false_winners():
    """Why the t test is there: were it left out, the rate would be several times 5 %."""
    rng = np.random.default_rng(1)
    variants, baselines = simulate(rng, comparisons=6, seeds=3, deviation=0.5, centre=0.5)
    draws = hierarchical_bootstrap(variants - baselines)
    tails = np.minimum((draws <= 0).sum(-1), (draws >= 0).sum(-1))
    p = np.minimum(1, 2 * (tails + 1) / (BOOTSTRAP.resamples + 1))
    assert (holm_adjusted(p) < 0.05).any(-1).mean() > 0.15


def shift_of_four_deviations(deviation):
    """The shift in logits that moves the accuracy by four of its standard deviations over seeds."""
    rng = np.random.default_rng(0)
    scores, _ = simulate(rng, comparisons=40, seeds=5, deviation=deviation, centre=-0.5)
    accuracy = scores.mean(-1).reshape(BATCH, -1)
    spread = np.sqrt(accuracy.var(1, ddof=1).mean())
    logits = -0.5 + rng.normal(size=20_000) * np.hypot(1, deviation)
    shifts = np.linspace(0, 4, 101)
    means = [sigmoid(logits + shift).mean() for shift in shifts]
    return np.interp(accuracy.mean() + 4 * spread, means, shifts), 4 * spread


@pytest.mark.parametrize("deviation", [0.0, 0.2, 0.5])
def test_difference_of_four_deviations_is_found(deviation):
    """In at least 80 % of suites with five seeds and the four comparisons of suite fusion."""
    shift, gap = shift_of_four_deviations(deviation)
    rng = np.random.default_rng(2)
    found, differences = [], []
    for _ in range(3):
        comparison = compare_paired(
            *simulate(rng, comparisons=4, seeds=5, deviation=deviation, centre=-0.5, shift=shift)
        )
        found.append(comparison.winner[:, 0] == 1)
        differences.append(comparison.difference[:, 0])
    assert np.mean(differences) == pytest.approx(gap, rel=0.1)
    assert np.mean(found) >= 0.8
