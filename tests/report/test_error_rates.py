"""Simulated suites: stated power is true, equivalence and looks err as seldom as they say."""

import numpy as np
import pytest
from scipy import stats

from crossattn.report.stats.bootstrap import Bootstrap
from crossattn.report.stats.estimate import estimate_paired, estimate_unpaired
from crossattn.report.stats.paired import compare_paired, decide
from crossattn.report.stats.power import Spread, resolvable_difference
from crossattn.report.stats.sequential import look_levels

FEW = Bootstrap(1000)
ITEMS = 40


def differences(rng, shape, spread):
    """Differences (*shape, items) of that spread, around 0."""
    rest = spread.rest * np.sqrt(ITEMS)
    single = np.sqrt(spread.seeds**2 - spread.rest**2)
    by_item = spread.items * np.sqrt(ITEMS) * rng.normal(size=(*shape[:-1], 1, ITEMS))
    alone = rest * rng.normal(size=(*shape, ITEMS))
    return single * rng.normal(size=(*shape, 1)) + by_item + alone


def seldom(errors, rate=0.05):
    """Not more than the rate, allowing for the noise of so many suites."""
    errors = np.asarray(errors)
    return stats.binom.sf(errors.sum() - 1, errors.size, rate) > 0.01


SPREADS = [Spread(1.0), Spread(1.0, rest=0.9), Spread(1.0, items=0.7, rest=0.5)]


@pytest.mark.parametrize("seeds", [3, 5, 8])
@pytest.mark.parametrize("spread", SPREADS, ids=["seeds", "rest", "items"])
def test_stated_power_is_the_rate_of_findings(spread, seeds):
    rng = np.random.default_rng(seeds)
    D = differences(rng, (1500, 1, seeds), spread) + resolvable_difference(spread, seeds)
    found = compare_paired(D, np.zeros_like(D), bootstrap=FEW)
    assert (found.winner == 1).mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("spread", SPREADS, ids=["seeds", "rest", "items"])
def test_variants_that_differ_by_the_margin_are_seldom_called_equivalent(spread):
    D = differences(np.random.default_rng(0), (1000, 5), spread)
    called = estimate_paired(D + 2.0, np.zeros_like(D), FEW).p_equivalent(2.0) < 0.05
    assert seldom(called)
    equal = estimate_paired(D, np.zeros_like(D), FEW).p_equivalent(5.0) < 0.05
    assert equal.mean() > 0.8


def test_equal_groups_that_are_not_paired_seldom_differ():
    rng = np.random.default_rng(0)
    sides = ((3, 1.0), (7, 0.2))  # where Welch's degrees of freedom err in 8 % of suites
    scores = [differences(rng, (500, 3, n), Spread(s, rest=0.1)) for n, s in sides]
    estimate = estimate_unpaired(*scores, FEW)
    found = decide(estimate, np.full(estimate.difference.shape, np.nan))
    assert seldom((found.winner != 0).any(-1))
    assert (found.winner != 0).any()
    far = estimate_unpaired(scores[0] + 8.0, scores[1], FEW)
    assert (far.p() < 0.05).mean() > 0.8


def test_seeds_may_be_added_at_planned_looks():
    """Two equal variants, looked at after 4, 8 and 12 seeds."""
    looks, few = (4, 8, 12), Bootstrap(500)
    D = np.random.default_rng(0).normal(size=(600, 2, looks[-1], 1))
    levels = {True: look_levels(looks), False: [0.05] * len(looks)}
    named = {}
    for planned, alphas in levels.items():
        found = [
            compare_paired(D[:, :, :n], np.zeros_like(D[:, :, :n]), alpha=alpha, bootstrap=few)
            for n, alpha in zip(looks, alphas, strict=True)
        ]
        named[planned] = np.any([(one.winner != 0).any(-1) for one in found], axis=0)
    assert seldom(named[True])
    assert named[False].mean() > 0.07
