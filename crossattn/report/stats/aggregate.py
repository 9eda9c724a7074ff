"""One number for many seeds and tasks, as Agarwal et al. (2021) propose.

Arrays have a row for each seed and a column for each task, scores normalised alike in all tasks.
"""

import numpy as np
from scipy import stats

from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.paired import ALPHA
from crossattn.shapes import Float


def iqm(scores: Float[np.ndarray, "seeds tasks"]) -> float:
    """Interquartile mean of all runs on all tasks: the mean of the middle half.

    Example:
        >>> iqm(np.array([[0.0, 0.5], [0.7, 1.0]]))
        0.6
    """
    return float(stats.trim_mean(scores, 0.25, axis=None))


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
    seeds, tasks = scores.shape
    if seeds < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(bootstrap.seed)
    drawn = rng.integers(seeds, size=(bootstrap.resamples, seeds, tasks))
    draws = stats.trim_mean(scores[drawn, np.arange(tasks)].reshape(len(drawn), -1), 0.25, axis=1)
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


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
