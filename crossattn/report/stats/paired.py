"""Paired comparisons of variants over seeds and evaluation items.

Every variant runs with the same seeds and answers the same items, so a comparison is made of
differences: one number per seed and item. Two sources of chance are left: which seeds were drawn
and which items were. The hierarchical bootstrap resamples both but believes a handful of seeds too
readily (identical variants win in up to a third of simulated suites); the paired t test over seeds
knows how few they are but takes the items as given. A comparison therefore reports the larger of
the two p-values and the union of the two intervals, and Holm's procedure corrects for the number of
comparisons of a suite. Under three seeds there is neither test nor interval: two that happen to
agree would seem to leave no doubt at all.
"""

from dataclasses import dataclass

import numpy as np

from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.estimate import (
    FEWEST_SEEDS,
    Estimate,
    estimate_paired,
    mean_and_error,
    student_interval,
    student_p,
    student_t,
)
from crossattn.report.stats.holm import holm_adjusted, holm_levels
from crossattn.shapes import Float, Int

# Family-wise error rate of the winners that one report names.
ALPHA = 0.05
# 2^16 sign patterns take a moment and half a megabyte a seed; nobody runs more seeds than that.
MOST_SEEDS_FOR_SIGN_FLIPS = 16


@dataclass(frozen=True)
class Comparisons:
    """What `compare_paired` found: arrays of shape (*suites, comparisons).

    Attributes:
        difference: mean over seeds and items of variant minus baseline.
        low, high: the interval of the difference at level `confidence`; NaN under `FEWEST_SEEDS`.
        confidence: the level that Holm's procedure gives this comparison, at least 1 - alpha.
        p: the larger p-value of hierarchical bootstrap and paired t test; 1 under three seeds.
        p_holm: `p` adjusted for the number of comparisons.
        p_sign_flip: the exact sign-flip p-value, for reference; never below 2^(1-seeds).
        alpha: the family-wise error rate.
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    confidence: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    p_sign_flip: np.ndarray
    alpha: float

    @property
    def winner(self) -> np.ndarray:
        """+1 where the variant is named better, -1 where the baseline is, 0 where neither."""
        return winners(self.low, self.high, self.p_holm, alpha=self.alpha)


def winners(
    low: Float[np.ndarray, "*rest"],
    high: Float[np.ndarray, "*rest"],
    p_holm: Float[np.ndarray, "*rest"],
    *,
    alpha: float = ALPHA,
) -> Int[np.ndarray, "*rest"]:
    """The only rule by which a winner is named: +1 the variant, -1 the baseline, 0 nobody.

    A winner needs both a Holm p-value below alpha and a corrected interval that leaves 0 out. NaN
    limits (under three seeds) compare false, so one or two seeds name nobody.

    Example:
        >>> low, high = np.array([0.1, -0.1, np.nan]), np.array([0.2, 0.2, np.nan])
        >>> winners(low, high, np.array([0.01, 0.01, 1.0])).tolist()
        [1, 0, 0]
    """
    side = (low > 0).astype(int) - (high < 0).astype(int)
    return np.where(p_holm < alpha, side, 0)


def compare_paired(
    variants: Float[np.ndarray, "*suites comparisons seeds items"],
    baselines: Float[np.ndarray, "*suites comparisons seeds items"],
    *,
    alpha: float = ALPHA,
    span: float = np.inf,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Comparisons:
    """Compare variants with their baselines, corrected for the number of comparisons.

    The interval of each comparison has the level at which Holm's procedure tests it, so it leaves 0
    out where the Holm p-value is below alpha (but for the bootstrap's discreteness), and the chance
    of naming any false winner in a suite is at most alpha. The intervals do not cover jointly.

    Args:
        variants: score of each item (0 or 1 for an answer), float64, paired with `baselines`
            through seeds and items. An item axis of length 1 holds a metric without items.
        baselines: the same for the baselines; a baseline may repeat.
        alpha: family-wise error rate of each suite.
        span: the largest difference that is possible, 1 for shares: intervals are cut at -span and
            span, which changes neither coverage nor winners.
        bootstrap: resampling; the same resamples serve every comparison.

    Returns:
        The comparisons, arrays of shape (*suites, comparisons).

    Raises:
        ValueError: if alpha is not between 0 and 1, or an axis is empty.

    Example:
        >>> items = np.random.default_rng(0).random((1, 5, 200))
        >>> found = compare_paired((items < 0.9) * 1.0, (items < 0.5) * 1.0)
        >>> found.winner.tolist(), bool(found.low[0] > 0.3), bool(found.high[0] < 0.5)
        ([1], True, True)
    """
    if 0 in variants.shape:
        raise ValueError(f"nothing to compare in items of shape {variants.shape}")
    estimate = estimate_paired(variants, baselines, bootstrap)
    by_seed = (variants - baselines).mean(-1)
    return decide(estimate, sign_flip(by_seed), alpha=alpha, span=span)


def decide(
    estimate: Estimate,
    p_sign_flip: Float[np.ndarray, "*suites comparisons"],
    *,
    alpha: float = ALPHA,
    span: Float[np.ndarray, "*suites comparisons"] | float = np.inf,
) -> Comparisons:
    """Correct estimates (*suites, comparisons) for the number of comparisons.

    Raises:
        ValueError: if alpha is not between 0 and 1.

    Example:
        >>> from crossattn.report.stats.estimate import estimate_unpaired
        >>> items = np.random.default_rng(0).random((1, 5, 200))
        >>> found = decide(estimate_unpaired((items < 0.9) * 1.0, (items < 0.5) * 1.0), np.ones(1))
        >>> found.winner.tolist()
        [1]
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    p = estimate.p()
    levels = holm_levels(p, alpha=alpha)
    low, high = estimate.interval(levels)
    return Comparisons(
        difference=estimate.difference,
        low=np.maximum(low, -span),
        high=np.minimum(high, span),
        confidence=1 - levels,
        p=p,
        p_holm=holm_adjusted(p),
        p_sign_flip=p_sign_flip,
        alpha=alpha,
    )


def paired_t(
    differences: Float[np.ndarray, "*rest seeds"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Paired t statistic and two-sided p-value over at least two seeds.

    Differences that are all the same have no spread: t is infinite and p = 0, or 0 and p = 1 where
    they are all zero.

    Example:
        >>> t, p = paired_t(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
        >>> t.round(3).tolist(), p.round(3).tolist()
        ([3.464, 0.0], [0.074, 1.0])
    """
    seeds = differences.shape[-1]
    if seeds < 2:
        raise ValueError("a t test needs at least 2 seeds")
    mean, error, degrees = mean_and_error(differences)
    t = student_t(mean, error)
    return t, student_p(t, degrees)


def t_interval(
    values: Float[np.ndarray, "*rest seeds"], *, alpha: Float[np.ndarray, "*rest"] | float = ALPHA
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Student's interval of the mean at level 1 - alpha; NaN under `FEWEST_SEEDS`.

    Example:
        >>> low, high = t_interval(np.array([1.0, 2.0, 3.0]))
        >>> float(low.round(3)), float(high.round(3))
        (-0.484, 4.484)
    """
    seeds = values.shape[-1]
    if seeds < FEWEST_SEEDS:
        nothing = np.full(values.shape[:-1], np.nan)
        return nothing, nothing
    return student_interval(*mean_and_error(values), alpha)


def sign_flip(differences: Float[np.ndarray, "*rest seeds"]) -> Float[np.ndarray, "*rest"]:
    """Exact two-sided sign-flip (paired permutation) p-value; NaN above 16 seeds.

    All 2^n patterns of signs are tried, and the observed one and its mirror image always count, so
    p is never below 2^(1-n).

    Example:
        >>> float(sign_flip(np.array([0.1, 0.2, 0.3])))
        0.25
    """
    seeds = differences.shape[-1]
    if seeds > MOST_SEEDS_FOR_SIGN_FLIPS:
        return np.full(differences.shape[:-1], np.nan)
    signs = 1.0 - 2.0 * ((np.arange(2**seeds)[:, None] >> np.arange(seeds)) & 1)
    sums = np.abs(differences @ signs.T)
    # Sums that are equal on paper differ in the last bits.
    slack = 1e-12 * np.abs(differences).sum(-1, keepdims=True)
    return np.asarray((sums >= sums[..., :1] - slack).mean(-1))
