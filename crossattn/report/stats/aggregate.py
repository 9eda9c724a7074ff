"""One number for many seeds and tasks, as Agarwal et al. (2021) propose.

Arrays have a row for each seed and a column for each task, scores normalised alike in all tasks.
"""

import numpy as np
import scipy

from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.paired import ALPHA, FEWEST_SEEDS
from crossattn.shapes import Float


def iqm(scores: Float[np.ndarray, "seeds tasks"]) -> float:
    """Interquartile mean of all runs on all tasks: the mean of the middle half.

    Example:
        >>> iqm(np.array([[0.0, 0.5], [0.7, 1.0]]))
        0.6
    """
    return float(scipy.stats.trim_mean(scores, 0.25, axis=None))


def iqm_interval(
    scores: Float[np.ndarray, "seeds tasks"],
    *,
    alpha: float = ALPHA,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> tuple[float, float]:
    """Stratified bootstrap interval of `iqm`: seeds are drawn anew within each task; NaN with one.

    Example:
        >>> iqm_interval(np.full((3, 2), 0.5))
        (0.5, 0.5)
    """
    if len(scores) < 2:
        return float("nan"), float("nan")
    draws = scipy.stats.trim_mean(_drawn_within_tasks(scores, bootstrap), 0.25, axis=1)
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def iqm_with_limits(scores: Float[np.ndarray, "seeds tasks"]) -> tuple[float, float, float]:
    """`iqm` with the limits of its interval, as reports have it: NaN under three seeds."""
    if len(scores) < FEWEST_SEEDS:
        return iqm(scores), float("nan"), float("nan")
    return (iqm(scores), *iqm_interval(scores))


def probability_of_improvement(
    variant: Float[np.ndarray, "seeds tasks"], baseline: Float[np.ndarray, "others tasks"]
) -> float:
    """P(a run of the variant beats one of the baseline), averaged over tasks; ties count 1/2.

    All pairs of runs are counted, not only those of the same seed.

    Example:
        >>> probability_of_improvement(np.array([[0.9], [0.5]]), np.array([[0.5], [0.4]]))
        0.875
    """
    wins = variant[:, None] > baseline[None]
    ties = variant[:, None] == baseline[None]
    return float((wins + 0.5 * ties).mean())


def performance_profile(
    scores: Float[np.ndarray, "seeds tasks"], thresholds: Float[np.ndarray, " thresholds"]
) -> Float[np.ndarray, " thresholds"]:
    """Share of all runs on all tasks whose score is above each threshold.

    Example:
        >>> performance_profile(np.array([[0.2, 0.6], [0.4, 0.8]]), np.array([0.1, 0.4, 0.7]))
        array([1.  , 0.5 , 0.25])
    """
    return (scores.ravel() > thresholds[:, None]).mean(1)


def profile_band(
    scores: Float[np.ndarray, "seeds tasks"],
    thresholds: Float[np.ndarray, " thresholds"],
    *,
    alpha: float = ALPHA,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> tuple[Float[np.ndarray, " thresholds"], Float[np.ndarray, " thresholds"]]:
    """Stratified bootstrap interval of `performance_profile` at each threshold; NaN with one seed.

    Example:
        >>> low, high = profile_band(np.array([[0.2], [0.6], [0.8]]), np.array([0.1, 0.5]))
        >>> low.tolist(), high.tolist()
        ([1.0, 0.0], [1.0, 1.0])
    """
    if len(scores) < 2:
        nothing = np.full(len(thresholds), np.nan)
        return nothing, nothing
    drawn = _drawn_within_tasks(scores, bootstrap)
    shares = np.stack([(drawn > threshold).mean(1) for threshold in thresholds])
    low, high = np.quantile(shares, [alpha / 2, 1 - alpha / 2], axis=1)
    return low, high


def _drawn_within_tasks(scores, bootstrap):
    """Scores (resamples, runs) whose seeds are drawn anew within each task."""
    seeds, tasks = scores.shape
    rng = np.random.default_rng(bootstrap.seed)
    drawn = rng.integers(seeds, size=(bootstrap.resamples, seeds, tasks))
    return scores[drawn, np.arange(tasks)].reshape(len(drawn), -1)
