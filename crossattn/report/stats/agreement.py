"""Whether variants rank alike: small models and large ones, little data and much.

Kendall's tau-b (1945) and Spearman's rho (1904) of the means over seeds; of more than two rankings
Kendall's W (Kendall & Babington Smith 1939). Their interval comes of seeds drawn anew in each: it
says how sure the ranking of these variants is, not what others do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from crossattn.align.ranking import kendall_tau, spearman_rho
from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.estimate import FEWEST_SEEDS
from crossattn.report.stats.paired import ALPHA
from crossattn.shapes import Float

# Fewer variants have no ranking to speak of.
FEWEST_TO_RANK = 3


@dataclass(frozen=True)
class Agreement:
    """Rank correlations from -1 (reversed) to 1 (the same order), each (value, low, high).

    NaN where all variants are equal; limits are NaN under three seeds.
    """

    kendall: tuple[float, float, float]
    spearman: tuple[float, float, float]

    def sentence(self, variants: int) -> str:
        """What is said of it.

        Example:
            >>> nan = float("nan")
            >>> print(Agreement((0.8, 0.4, 1.0), (0.9, nan, nan)).sentence(5).partition(": ")[2])
            Kendall's tau 0.80 [0.40, 1.00], Spearman's rho 0.90.
        """
        shown = [
            f"{name} {value:.2f}" + ("" if np.isnan(low) else f" [{low:.2f}, {high:.2f}]")
            for name, (value, low, high) in (
                ("Kendall's tau", self.kendall),
                ("Spearman's rho", self.spearman),
            )
        ]
        return (
            f"Agreement of the rankings of {variants} variants (1 is the same order, -1 the "
            f"reverse; 95 % over seeds): {', '.join(shown)}."
        )


def ranking_agreement(
    scores: Float[np.ndarray, "seeds variants"],
    others: Float[np.ndarray, "more_seeds variants"],
    *,
    alpha: float = ALPHA,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Agreement:
    """How far two sets of runs rank the same variants alike, with percentile intervals.

    Raises:
        ValueError: fewer than two variants.

    Example:
        >>> scores = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, 0.4], [0.2, 0.1, 0.3]])
        >>> ranking_agreement(scores, scores).kendall
        (1.0, 0.3333333333333333, 1.0)
    """
    if scores.shape[1] < 2:
        raise ValueError("a ranking has at least 2 variants")
    rng = np.random.default_rng(bootstrap.seed)
    drawn = [_means_drawn(rng, side, bootstrap.resamples) for side in (scores, others)]
    fewest = min(len(scores), len(others))
    return Agreement(
        *(
            _with_limits(
                correlation(scores.mean(0), others.mean(0)), correlation(*drawn), fewest, alpha
            )
            for correlation in (kendall_tau, spearman_rho)
        )
    )


def concordance(
    scores: Sequence[Float[np.ndarray, "_ variants"]],
    *,
    alpha: float = ALPHA,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> tuple[float, float, float]:
    """Kendall's W of the rankings of several sets of runs, with its percentile interval.

    Args:
        scores: of each set, (seeds, variants): the same variants in the same order; numbers of
            seeds may differ.
        alpha: one minus the level of the interval.
        bootstrap: resampling of the seeds, within each set.

    Returns:
        (W, low, high); NaN limits where a set has under three seeds.

    Raises:
        ValueError: fewer than two sets, or fewer than two variants.

    Example:
        >>> level = np.arange(4.0) + 0.01 * np.random.default_rng(0).random((5, 4))
        >>> concordance([level, 2 * level, level**2])
        (1.0, 1.0, 1.0)
    """
    if len(scores) < 2 or scores[0].shape[1] < 2:
        raise ValueError("a concordance is one of 2 or more rankings of 2 or more variants")
    rng = np.random.default_rng(bootstrap.seed)
    drawn = np.stack([_means_drawn(rng, side, bootstrap.resamples) for side in scores], axis=1)
    value = kendall_w(np.stack([side.mean(0) for side in scores]))
    return _with_limits(value, kendall_w(drawn), min(map(len, scores)), alpha)


def kendall_w(
    values: Float[np.ndarray, "*rest rankings variants"],
) -> Float[np.ndarray, "*rest"]:
    """Kendall's W, corrected for ties: 1 where all rankings agree, about 0 where none do.

    NaN where every ranking is constant.

    Example:
        >>> kendall_w(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])).round(3).item()
        0.111
    """
    judges, variants = values.shape[-2:]
    ranks = scipy.stats.rankdata(values, axis=-1)
    sums = ranks.sum(-2)
    spread = ((sums - sums.mean(-1, keepdims=True)) ** 2).sum(-1)
    # The sum of squares of ranks that all agree, which ties make smaller.
    own = ((ranks - (variants + 1) / 2) ** 2).sum((-2, -1))
    return np.asarray(np.where(own == 0, np.nan, spread / (judges * np.where(own == 0, 1.0, own))))


def _means_drawn(rng, scores, resamples):
    rows = rng.integers(len(scores), size=(resamples, len(scores)))
    return scores[rows].mean(1)


def _with_limits(value, draws, seeds, alpha):
    """A correlation with the percentile interval of its draws; NaN limits under three seeds."""
    draws = draws[~np.isnan(draws)]
    if seeds < FEWEST_SEEDS or not len(draws):
        return float(value), float("nan"), float("nan")
    low, high = np.quantile(draws, [alpha / 2, 1 - alpha / 2])
    return float(value), float(low), float(high)
