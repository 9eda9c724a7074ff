"""Power, corrections, profiles, looks and rankings equal what others compute."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from crossattn.align.ranking import kendall_tau, spearman_rho
from crossattn.report.stats.aggregate import performance_profile, profile_band
from crossattn.report.stats.agreement import concordance, kendall_w, ranking_agreement
from crossattn.report.stats.bootstrap import Bootstrap
from crossattn.report.stats.estimate import estimate_paired, estimate_unpaired
from crossattn.report.stats.holm import bh_adjusted
from crossattn.report.stats.power import (
    Spread,
    power_of,
    resolution,
    resolvable_difference,
    seeds_to_resolve,
    spread_of,
)
from crossattn.report.stats.sequential import level_of_look, look_levels

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
FEW = Bootstrap(1000)


@pytest.fixture(scope="module")
def rliable():
    return json.loads((FIXTURES / "rliable.json").read_text())


def test_bh_equals_statsmodels():
    paired = json.loads((FIXTURES / "paired_stats.json").read_text())
    p, wanted = np.array(paired["pvalues"]), np.array(paired["multiple"]["fdr_bh"]["p_adj"])
    np.testing.assert_allclose(bh_adjusted(p), wanted, rtol=0, atol=1e-10)
    shuffled = np.random.default_rng(0).permutation(len(p))
    np.testing.assert_allclose(bh_adjusted(p[shuffled]), wanted[shuffled], atol=1e-10)
    rows = np.random.default_rng(0).random((7, 5)) ** 3
    wanted = [stats.false_discovery_control(row) for row in rows]
    np.testing.assert_allclose(bh_adjusted(rows), wanted, atol=1e-12)


def test_profile_equals_rliable(rliable):
    taus = np.array(rliable["taus"])
    for name, scores in rliable["scores"].items():
        wanted = rliable["performance_profile"][name]
        profile = performance_profile(np.array(scores), taus)
        np.testing.assert_allclose(profile, wanted, rtol=0, atol=1e-10)
        low, high = profile_band(np.array(scores), taus)
        assert (low <= profile).all()
        assert (profile <= high).all()
        assert (high - low).max() > 0.1
    assert np.isnan(profile_band(np.ones((1, 2)), taus)).all()


@pytest.mark.parametrize("seeds", [3, 5, 13])
@pytest.mark.parametrize("comparisons", [1, 4])
def test_power_without_items_is_that_of_the_noncentral_t(seeds, comparisons):
    level, effect = 0.05 / comparisons, 1.7
    limit = stats.t.ppf(1 - level / 2, seeds - 1)
    wanted = stats.nct.sf(limit, seeds - 1, effect * np.sqrt(seeds))
    found = power_of(effect * 0.3, Spread(0.3), seeds, comparisons=comparisons)
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.2, 8)])
def test_seeds_are_those_of_published_tables(effect, seeds):
    """Pairs for a power of 0.8 at 0.05, two-sided, as G*Power 3.1 and statsmodels have them."""
    assert seeds_to_resolve(effect, Spread(1.0)) == seeds


def test_what_is_resolvable_is_resolved():
    spread = Spread(0.02, items=0.004, rest=0.01)
    for seeds in (3, 5, 10):
        smallest = resolvable_difference(spread, seeds, comparisons=4)
        assert power_of(smallest, spread, seeds, comparisons=4) == pytest.approx(0.8, abs=1e-6)
        assert seeds_to_resolve(1.0001 * smallest, spread, comparisons=4) == seeds
    assert resolvable_difference(Spread(0.0), 5) == 0
    assert seeds_to_resolve(0.011, spread) is None


def test_resolution_of_a_suite_is_that_of_its_spread(suite):
    comparisons = suite[0]["comparisons"]
    found = resolution(comparisons)
    squares = [np.var(one["seed_differences"], ddof=1) for one in comparisons]
    assert found.spread.seeds == pytest.approx(np.sqrt(np.mean(squares)), abs=1e-12)
    wanted = resolvable_difference(found.spread, 5, comparisons=5)
    assert (found.seeds, found.difference) == (5, wanted)
    assert found.seeds_for_half == seeds_to_resolve(wanted / 2, found.spread, comparisons=5)
    assert f"{wanted:.3f}" in found.sentence()
    assert resolution([{**one, "spread": None} for one in comparisons]) is None
    former = [{name: x for name, x in one.items() if name != "spread"} for one in comparisons]
    assert resolution(former) is None
    assert resolution([]) is None


def test_spread_is_that_of_the_design():
    rng, truth = np.random.default_rng(0), (0.5, 0.8, 1.5)
    squares = []
    for _ in range(200):
        D = rng.normal(size=(7, 1)) * truth[0] + rng.normal(size=23) * truth[1]
        found = spread_of(D + truth[2] * rng.normal(size=(7, 23)))
        squares.append((found.seeds**2, found.items**2, found.rest**2))
    wanted = (0.25 + 2.25 / 23, 0.64 / 23, 2.25 / 23)
    np.testing.assert_allclose(np.mean(squares, 0), wanted, rtol=0.1)


def test_tost_without_items_is_two_t_tests():
    differences = np.random.default_rng(0).normal(0.2, 1, (40, 8))
    # The margin is so wide that the t tests are the stricter ones.
    found = estimate_paired(differences[..., None], np.zeros((40, 8, 1)), FEW)
    above = stats.ttest_1samp(differences, -1.2, axis=1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 1.2, axis=1, alternative="less").pvalue
    by_t = np.maximum(above, below)
    p = found.p_equivalent(1.2)
    assert (p >= by_t - 1e-12).all()
    assert np.isclose(p, by_t, atol=1e-12).mean() > 0.8
    low, high = found.interval(0.1)
    np.testing.assert_array_equal(p < 0.05, (low > -1.2) & (high < 1.2))


def test_unpaired_is_welch_with_the_fewer_degrees():
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(30, 5)), rng.normal(1, 3, (30, 8))
    found = estimate_unpaired(left[..., None], right[..., None], FEW)
    welch = stats.ttest_ind(left, right, axis=1, equal_var=False)
    np.testing.assert_allclose(found.difference / found.error, welch.statistic, atol=1e-10)
    wanted = 2 * stats.t.sf(abs(welch.statistic), 4)
    assert (found.p() >= wanted - 1e-12).all()
    assert np.isclose(found.p(), wanted, atol=1e-12).mean() > 0.7
    low, high = found.interval(0.05)
    wide = welch.confidence_interval(0.95)
    assert (low <= wide.low).all()
    assert (high >= wide.high).all()


def test_sides_that_are_not_paired_are_drawn_apart():
    scores = np.random.default_rng(0).normal(size=(5, 50)) + np.arange(5.0)[:, None]
    one = estimate_paired(scores, np.zeros_like(scores))
    both = estimate_unpaired(scores, scores)
    assert both.draws.var() == pytest.approx(2 * one.draws.var(), rel=0.1)


def test_two_seeds_have_neither_test_nor_interval():
    for found in (
        estimate_paired(np.ones((2, 9)), np.zeros((2, 9))),
        estimate_unpaired(np.ones((2, 9)), np.zeros((5, 9))),
    ):
        assert found.p() == found.p_equivalent(3.0) == 1
        assert np.isnan(found.interval(0.05)).all()
    with pytest.raises(ValueError, match="under 3 seeds"):
        power_of(1.0, Spread(1.0), 2)


def test_looks_share_alpha_out():
    assert look_levels([3, 4, 9, 13]).sum() == pytest.approx(0.05, abs=1e-15)
    for looks in ([], [2, 5], [5, 5], [10, 5]):
        with pytest.raises(ValueError, match="looks are ascending"):
            look_levels(looks)
    with pytest.raises(ValueError, match="7 seeds are there, and looks were planned at 5, 10"):
        level_of_look(7, [5, 10])


def test_rank_correlations_equal_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(5, size=(2, 40, 7)).astype(float)  # with ties
    wanted = [stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(kendall_tau(x, y), wanted, atol=1e-12)
    wanted = [stats.spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(spearman_rho(x, y), wanted, atol=1e-12)
    assert np.isnan(kendall_tau(np.ones(3), np.arange(3.0)))


def test_concordance_equals_friedmans_statistic():
    values = np.random.default_rng(0).integers(5, size=(50, 4, 6)).astype(float)  # with ties
    wanted = [stats.friedmanchisquare(*one.T).statistic / (4 * 5) for one in values]
    np.testing.assert_allclose(kendall_w(values), wanted, atol=1e-12)
    assert np.isnan(kendall_w(np.ones((3, 4))))
    apart = np.arange(4.0) + 0.01 * np.random.default_rng(0).random((5, 4))
    assert concordance([apart, apart, apart**2]) == (1, 1, 1)
    assert concordance([apart, -apart])[0] == 0
    assert np.isnan(concordance([apart, apart[:2]])[1:]).all()
    with pytest.raises(ValueError, match="2 or more rankings"):
        concordance([apart])


def test_agreement_is_sure_where_variants_are_far_apart():
    rng = np.random.default_rng(0)
    apart = np.arange(6.0) + 0.01 * rng.normal(size=(5, 6))
    assert ranking_agreement(apart, apart + 3).kendall == (1, 1, 1)
    assert ranking_agreement(apart, -apart).spearman == (-1, -1, -1)
    noise = [rng.normal(size=(5, 6)) for _ in range(2)]
    found = ranking_agreement(*noise).kendall
    assert found[2] - found[1] > 0.5
    few = ranking_agreement(apart[:2], apart)
    assert few.kendall[0] == 1
    assert np.isnan(few.kendall[1:]).all()
