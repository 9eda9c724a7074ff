"""A difference and how sure it is, by two ways: Student's over seeds, and the bootstrap's.

The one knows how few seeds there are, the other that items were drawn as well. What is said of a
difference is what both allow: the larger p-value, the wider interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap, hierarchical_bootstrap
from crossattn.shapes import Float

# Fewer seeds say nothing of their spread, and get no interval and no test.
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """Differences of variants, arrays of shape (*rest,).

    Attributes:
        difference: mean of the variant minus that of its baseline.
        error: its standard error, from the spread over seeds.
        degrees: of freedom of that error.
        draws: of the hierarchical bootstrap, sorted, (*rest, resamples); NaN under three seeds.
    """

    difference: np.ndarray
    error: np.ndarray
    degrees: np.ndarray
    draws: np.ndarray

    def p(self) -> Float[np.ndarray, "*rest"]:
        """Two-sided p-value of no difference: the larger of both; 1 under three seeds."""
        tail = np.minimum(self._share(self.draws <= 0), self._share(self.draws >= 0))
        p = np.maximum(np.minimum(1.0, 2 * tail), student_p(self._t(0.0), self.degrees))
        return np.asarray(np.where(self._untested, 1.0, p))

    def p_equivalent(self, margin: float) -> Float[np.ndarray, "*rest"]:
        """p-value of a difference of the margin or more, either way (two one-sided tests)."""
        below, above = self._t(-margin), self._t(margin)
        by_t = np.maximum(special.stdtr(self.degrees, -below), special.stdtr(self.degrees, above))
        share = np.maximum(self._share(self.draws <= -margin), self._share(self.draws >= margin))
        return np.asarray(np.where(self._untested, 1.0, np.maximum(by_t, share)))

    def interval(
        self, alpha: Float[np.ndarray, "*rest"] | float
    ) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
        """From the lower of both lower limits to the upper of both upper ones, at 1 - alpha."""
        levels = np.broadcast_to(alpha, self.difference.shape)
        low, high = student_interval(self.difference, self.error, self.degrees, levels)
        lower = np.minimum(low, _quantile_of_sorted(self.draws, levels / 2))
        upper = np.maximum(high, _quantile_of_sorted(self.draws, 1 - levels / 2))
        return np.asarray(lower), np.asarray(upper)

    @property
    def _untested(self) -> np.ndarray:
        return np.asarray(np.isnan(self.draws[..., 0]))

    def _t(self, null: float) -> np.ndarray:
        return student_t(np.asarray(self.difference - null), self.error)

    def _share(self, beyond: np.ndarray) -> np.ndarray:
        """Share of draws; with 1 added, as finitely many draws cannot show p = 0."""
        return np.asarray(np.minimum(1.0, (beyond.sum(-1) + 1) / (beyond.shape[-1] + 1)))


def estimate_paired(
    variants: Float[np.ndarray, "*rest seeds items"],
    baselines: Float[np.ndarray, "*rest seeds items"],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Estimate:
    """Differences of variants that share seeds and items with their baselines."""
    differences = variants - baselines
    mean, error, degrees = mean_and_error(differences.mean(-1))
    return Estimate(mean, error, degrees, np.sort(_draws(differences, bootstrap), axis=-1))


def estimate_unpaired(
    variants: Float[np.ndarray, "*rest seeds items"],
    baselines: Float[np.ndarray, "*rest others questions"],
    bootstrap: Bootstrap = BOOTSTRAP,
) -> Estimate:
    """Differences of variants with other seeds or items: the squared errors of both add up.

    Degrees of freedom are those of the side with fewer seeds, which errs at most as often as it
    says (Mickey & Brown 1966). Those of Welch (1947) err up to twice as often with 3 to 5 seeds
    whose spreads differ, at the levels of Holm's procedure.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = estimate_unpaired(rng.random((3, 50)), rng.random((4, 60)))
        >>> float(found.degrees), found.draws.shape
        (2.0, (4000,))
    """
    sides = [mean_and_error(scores.mean(-1)) for scores in (variants, baselines)]
    (mean, error, degrees), (other, error_of_other, others) = sides
    second = Bootstrap(bootstrap.resamples, bootstrap.seed + 1)
    draws = _draws(variants, bootstrap) - _draws(baselines, second)
    return Estimate(
        np.asarray(mean - other),
        np.asarray(np.hypot(error, error_of_other)),
        np.asarray(np.minimum(degrees, others)),
        np.sort(draws, axis=-1),
    )


def stacked(estimates: list[Estimate]) -> Estimate:
    """Several estimates as one, along a new first axis."""
    fields = ("difference", "error", "degrees", "draws")
    return Estimate(*(np.stack([getattr(one, name) for one in estimates]) for name in fields))


def one_after_another(estimates: list[Estimate]) -> Estimate:
    """Several estimates as one, one after another along their first axis."""
    fields = ("difference", "error", "degrees", "draws")
    return Estimate(*(np.concatenate([getattr(one, name) for one in estimates]) for name in fields))


def mean_and_error(
    values: Float[np.ndarray, "*rest seeds"],
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Mean over seeds, its standard error (0 of one seed) and degrees of freedom (at least 1).

    Example:
        >>> [float(x) for x in mean_and_error(np.array([1.0, 2.0, 3.0, 6.0]))]
        [3.0, 1.0801234497346435, 3.0]
    """
    seeds, mean = values.shape[-1], np.asarray(values.mean(-1))
    spread = values.std(-1, ddof=1) if seeds > 1 else np.zeros_like(mean)
    return mean, np.asarray(spread / np.sqrt(seeds)), np.full(mean.shape, max(1.0, seeds - 1.0))


def student_t(
    mean: Float[np.ndarray, "*rest"], error: Float[np.ndarray, "*rest"]
) -> Float[np.ndarray, "*rest"]:
    """Student's t; infinite where there is no spread, 0 where there is no difference either."""
    flat = error == 0
    t = np.where(flat, np.copysign(np.inf, mean), mean / np.where(flat, 1.0, error))
    return np.asarray(np.where(mean == 0, 0.0, t))


def student_p(
    t: Float[np.ndarray, "*rest"], degrees: Float[np.ndarray, "*rest"]
) -> Float[np.ndarray, "*rest"]:
    """Two-sided p-value of Student's t."""
    return np.asarray(2 * special.stdtr(degrees, -np.abs(t)))


def student_interval(
    mean: Float[np.ndarray, "*rest"],
    error: Float[np.ndarray, "*rest"],
    degrees: Float[np.ndarray, "*rest"],
    alpha: Float[np.ndarray, "*rest"] | float,
) -> tuple[Float[np.ndarray, "*rest"], Float[np.ndarray, "*rest"]]:
    """Student's interval of a mean at level 1 - alpha."""
    half = special.stdtrit(degrees, 1 - np.asarray(alpha) / 2) * error
    return np.asarray(mean - half), np.asarray(mean + half)


def _draws(scores, bootstrap):
    """Draws of the mean; NaN under three seeds."""
    if scores.shape[-2] < FEWEST_SEEDS:
        return np.full((*scores.shape[:-2], bootstrap.resamples), np.nan)
    return hierarchical_bootstrap(scores, bootstrap=bootstrap)


def _quantile_of_sorted(draws, q):
    """Linear quantile along the sorted last axis, another `q` for every row."""
    place = np.asarray(q)[..., None] * (draws.shape[-1] - 1)
    below = np.floor(place).astype(int)
    left = np.take_along_axis(draws, below, -1)
    right = np.take_along_axis(draws, np.minimum(below + 1, draws.shape[-1] - 1), -1)
    return (left + (right - left) * (place - below))[..., 0]
