"""Simulated suites of right and wrong answers: items differ in difficulty, seeds in skill.

Quick cores run with every test; the long forms have so many repetitions that their own noise is a
fraction of what is allowed. Measured with the long forms: see docs/statistics.md.
"""

import functools

import numpy as np
import pytest
from scipy import stats

from crossattn.report.stats.bootstrap import Bootstrap
from crossattn.report.stats.comparisons import compare_variants, winner_of
from crossattn.report.stats.estimate import estimate_paired, estimate_unpaired
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.paired import compare_paired
from crossattn.report.stats.power import pooled, power_of, resolvable_difference, spread_of
from crossattn.report.stats.sequential import look_levels

FEW = Bootstrap(1000)
ITEMS, BATCH = 100, 200
DEVIATIONS = [0.0, 0.25, 0.5]
REPETITIONS = [400, pytest.param(10_000, marks=pytest.mark.slow)]
repeated = pytest.mark.parametrize("suites", REPETITIONS)
skilled = pytest.mark.parametrize("deviation", DEVIATIONS)


def answers(rng, *, variants, seeds, deviation, shift=0.0, centre=-0.5, suites=BATCH):
    """Right (1) or wrong answers (suites, variants, seeds, ITEMS); the first variant is better.

    By `shift`, in logits; `deviation` is that of the skill of seeds.
    """
    logits = rng.normal(centre, 1, (suites, 1, 1, ITEMS))
    logits = logits + deviation * rng.normal(size=(suites, variants, seeds, 1))
    logits[:, 0] += shift
    return (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))) * 1.0


def batches(suites, seed, **of):
    """As many suites, some at a time."""
    rng = np.random.default_rng([seed, suites])
    return (answers(rng, **of) for _ in range(suites // BATCH))


def against_last(scores):
    """All variants and, as their baseline, the last one."""
    return scores[:, :-1], np.broadcast_to(scores[:, -1:], scores[:, :-1].shape)


def differences_of(suites, **of):
    """Of the first variant to the second (suites, seeds, ITEMS), to know the truth by."""
    scores = answers(np.random.default_rng(99), variants=2, suites=suites, **of)
    return scores[:, 0] - scores[:, 1]


@functools.cache
def gap_and_spread(**of):
    """The true difference that a shift makes, and how it spreads: of 2,000 suites."""
    differences = differences_of(2000, **of)
    return differences.mean(), pooled([spread_of(one) for one in differences])


def shift_for(gap, **of):
    """The shift that makes such a difference."""
    shifts = np.linspace(0, 4, 17)
    gaps = [differences_of(400, shift=shift, **of).mean() for shift in shifts]
    return float(np.interp(gap, gaps, shifts))


def seldom(errors, rate=0.05):
    """Whether errors are not more frequent than the rate, at 1 % of the binomial distribution."""
    errors = np.asarray(errors)
    return stats.binom.sf(errors.sum() - 1, errors.size, rate) > 0.01


@repeated
@skilled
@pytest.mark.parametrize("comparisons", [1, 4])
def test_stated_power_is_the_rate_of_findings(suites, deviation, comparisons):
    """Over several comparisons stated power is that of Holm's first step: at least so much."""
    design = {"seeds": 5, "deviation": deviation}
    _, spread = gap_and_spread(**design)
    design["shift"] = shift_for(resolvable_difference(spread, 5, comparisons=comparisons), **design)
    # Answers of a better variant spread a little otherwise.
    stated = power_of(*gap_and_spread(**design), 5, comparisons=comparisons)
    assert stated == pytest.approx(0.8, abs=0.1)
    found = np.concatenate(
        [
            compare_paired(*against_last(scores), bootstrap=FEW).winner[:, 0] == 1
            for scores in batches(suites, 1, variants=comparisons + 1, **design)
        ]
    )
    noise = 3 * np.sqrt(stated * (1 - stated) / suites)
    above = 0.0 if comparisons == 1 else 0.05
    assert stated - 0.03 - noise * (suites < 1000) <= found.mean()
    assert found.mean() <= stated + 0.03 + above + noise * (suites < 1000)


@repeated
@skilled
def test_variants_that_differ_by_the_margin_are_seldom_called_equivalent(suites, deviation):
    """Of two comparisons that both differ by it, corrected by Holm; paired and as two groups."""
    design = {"seeds": 5, "deviation": deviation, "shift": 0.5}
    gap, _ = gap_and_spread(**design)
    called = {"paired": [], "apart": []}
    for scores in batches(suites, 2, variants=2, **design):
        better, other = scores[:, 0].reshape(-1, 2, 5, ITEMS), scores[:, 1].reshape(-1, 2, 5, ITEMS)
        estimates = {"paired": estimate_paired(better, other, FEW)}
        estimates["apart"] = estimate_unpaired(better, other, FEW)
        for name, estimate in estimates.items():
            called[name].append((holm_adjusted(estimate.p_equivalent(gap)) < 0.05).any(-1))
    assert seldom(np.concatenate(called["paired"]))
    assert seldom(np.concatenate(called["apart"]))


@repeated
@skilled
def test_equal_variants_seldom_differ_with_seeds_added_at_planned_looks(suites, deviation):
    looks, named = (4, 8, 12), []
    for scores in batches(suites, 3, variants=4, seeds=looks[-1], deviation=deviation):
        found = [
            compare_paired(*against_last(scores[:, :, :seeds]), alpha=alpha, bootstrap=FEW).winner
            for seeds, alpha in zip(looks, look_levels(looks), strict=True)
        ]
        named.append(np.any(found, axis=(0, 2)))
    assert seldom(np.concatenate(named))


@repeated
@skilled
def test_four_deviations_are_found_and_equal_variants_are_not(suites, deviation):
    """Five seeds, four comparisons; only the first variant differs."""
    _, spread = gap_and_spread(seeds=5, deviation=deviation)
    # The deviation of one variant; that of differences is larger by the root of two.
    shift = shift_for(4 * spread.seeds / np.sqrt(2), seeds=5, deviation=deviation)
    found, wrong = [], []
    for scores in batches(suites, 4, variants=5, seeds=5, deviation=deviation, shift=shift):
        winner = compare_paired(*against_last(scores), bootstrap=FEW).winner
        found.append(winner[:, 0] == 1)
        wrong.append((winner[:, 1:] != 0).any(-1))
    assert np.mean(found) >= 0.8
    assert seldom(np.concatenate(wrong))


@pytest.mark.parametrize("suites", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_claims_about_other_metrics_make_no_false_winners(suites):
    """As reports compare: the primary metric by items, pointing and pace by seeds."""
    rng, errors = np.random.default_rng(5), []
    names = ("a", "b", "c")
    claims = [("a", "b", "mass/answer"), ("b", "c", "mass/answer"), ("a", "c", "cost/step_seconds")]
    for scores in answers(rng, variants=3, seeds=5, deviation=0.3, suites=suites):
        runs = [
            {
                "variant": name,
                "seed": seed,
                "metrics": {"x/y": row.mean(), "mass/answer": row.mean() / 2 + 0.1 * rng.random()},
                "cost": {"cost/step_seconds": rng.lognormal()},
            }
            for name, own in zip(names, scores, strict=True)
            for seed, row in enumerate(own)
        ]
        items = dict(zip(names, scores, strict=True))
        found = compare_variants(
            runs, items, primary="x/y", baseline="a", claims=claims, bootstrap=Bootstrap(400)
        )
        assert len(found) == 5
        errors.append(any(winner_of(one) for one in found))
    assert seldom(errors)
