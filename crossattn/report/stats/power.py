"""How small a difference a suite can find, and how many seeds a smaller one takes.

Power is the probability that a true difference of a given size is called one. It is that of the
test of `estimate`: a difference counts where Student's t over seeds and the bootstrap both leave 0
out. Given the spread over seeds, the mean is normal, and the squared deviation of n seeds follows
chi-squared with n - 1 degrees of freedom: one integral over it. Without items this is the power of
the t test by its noncentral distribution (Cohen 1988).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from scipy import special

from crossattn.report.stats.estimate import FEWEST_SEEDS
from crossattn.report.stats.paired import ALPHA
from crossattn.shapes import Float

# What is asked of a suite by custom (Cohen 1988).
POWER = 0.8
# Nobody runs more seeds than that.
MOST_SEEDS = 1000
# Points of the integral over the deviation that a few seeds happen to have.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


@dataclass(frozen=True)
class Spread:
    """Why a difference comes out otherwise in the next repetition: standard deviations.

    Attributes:
        seeds: of the difference of one seed, on these items.
        items: of the mean difference, by which items were drawn: more seeds do not make it less.
        rest: the part of `seeds` that is in single items: answered by one seed, missed by another.
    """

    seeds: float
    items: float = 0.0
    rest: float = 0.0


def spread_of(differences: Float[np.ndarray, "seeds items"]) -> Spread | None:
    """Spread of differences by analysis of variance, crossed; None under three seeds.

    Example:
        >>> found = spread_of(np.array([[0.1, 0.3], [0.2, 0.4], [0.3, 0.5]]))
        >>> round(found.seeds, 3), round(found.items, 3), round(found.rest, 3)
        (0.1, 0.1, 0.0)
    """
    seeds, items = differences.shape
    if seeds < FEWEST_SEEDS:
        return None
    by_seed, by_item = differences.mean(1), differences.mean(0)
    deviation = float(by_seed.std(ddof=1))
    if items < 2:
        return Spread(deviation)
    residuals = differences - by_seed[:, None] - by_item + differences.mean()
    rest = (residuals**2).sum() / ((seeds - 1) * (items - 1))
    of_items = max(0.0, by_item.var(ddof=1) - rest / seeds)
    return Spread(deviation, float(np.sqrt(of_items / items)), float(np.sqrt(rest / items)))


def pooled(spreads: Sequence[Spread]) -> Spread:
    """One spread for several comparisons: root mean squares.

    Example:
        >>> pooled([Spread(0.3), Spread(0.4)]).seeds.__round__(3)
        0.354
    """
    fields = np.array([(one.seeds, one.items, one.rest) for one in spreads])
    return Spread(*(float(x) for x in np.sqrt((fields**2).mean(0))))


def power_of(
    difference: float, spread: Spread, seeds: int, *, comparisons: int = 1, alpha: float = ALPHA
) -> float:
    """Probability that a true difference is called one, its direction right.

    Args:
        difference: the true one.
        spread: of differences.
        seeds: of each variant, paired.
        comparisons: over which Holm's procedure runs. Power is that of its first step, alpha over
            their number: a comparison has at least that much.
        alpha: family-wise error rate.

    Raises:
        ValueError: fewer seeds than three, for which nothing is tested.

    Example:
        >>> round(power_of(0.5, Spread(1.0), seeds=34), 3)  # as G*Power has it
        0.808
    """
    if seeds < FEWEST_SEEDS:
        raise ValueError(f"nothing is tested under {FEWEST_SEEDS} seeds, got {seeds}")
    level, degrees = alpha / comparisons, seeds - 1
    share = (_NODES + 1) / 2
    variance = spread.seeds**2 * 2 * special.gammaincinv(degrees / 2, share) / degrees
    by_t = special.stdtrit(degrees, 1 - level / 2) * np.sqrt(variance / seeds)
    drawn = variance * degrees / seeds**2 + spread.items**2 + 2 * spread.rest**2 / seeds
    needed = np.maximum(by_t, special.ndtri(1 - level / 2) * np.sqrt(drawn))
    error = np.sqrt(spread.seeds**2 / seeds + spread.items**2)
    if error == 0:
        return float(difference > 0)
    return float(special.ndtr((difference - needed) / error) @ _WEIGHTS / 2)


def resolvable_difference(
    spread: Spread,
    seeds: int,
    *,
    comparisons: int = 1,
    alpha: float = ALPHA,
    power: float = POWER,
) -> float:
    """The smallest true difference that is found with a power.

    Example:
        >>> round(resolvable_difference(Spread(0.02), 5, comparisons=4), 4)
        0.0495
    """
    if spread.seeds == spread.items == 0:
        return 0.0
    lacking = lambda d: power_of(d, spread, seeds, comparisons=comparisons, alpha=alpha) - power
    high = spread.seeds + spread.items
    while lacking(high) < 0:
        high *= 2
    return float(scipy.optimize.brentq(lacking, 0.0, high, xtol=1e-9 * high))


def seeds_to_resolve(
    difference: float,
    spread: Spread,
    *,
    comparisons: int = 1,
    alpha: float = ALPHA,
    power: float = POWER,
) -> int | None:
    """The fewest seeds that find a true difference with a power; None where no number does.

    More seeds do not help against items that are too few.

    Example:
        >>> seeds_to_resolve(0.5, Spread(1.0)), seeds_to_resolve(0.5, Spread(1.0, items=0.3))
        (34, None)
    """
    if difference <= 0:
        raise ValueError(f"a difference to find is more than 0, got {difference}")
    found = lambda n: power_of(difference, spread, n, comparisons=comparisons, alpha=alpha) >= power
    low, high = FEWEST_SEEDS, MOST_SEEDS
    if not found(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) else (middle + 1, high)
    return low


@dataclass(frozen=True)
class Resolution:
    """What the comparisons of a suite can find with a power of `POWER`.

    Attributes:
        spread: pooled over the comparisons.
        seeds: that ran.
        comparisons: over which Holm's procedure runs.
        difference: the smallest true one that they find.
        seeds_for_half: that would find one half as large; None where only more items would.
    """

    spread: Spread
    seeds: int
    comparisons: int
    difference: float
    seeds_for_half: int | None

    def sentence(self) -> str:
        """What a report says of it."""
        comparisons = "1 comparison" if self.comparisons == 1 else f"{self.comparisons} comparisons"
        more = (
            "for half of that no number of seeds is enough, it takes more items"
            if self.seeds_for_half is None
            else f"half of that would take {self.seeds_for_half} seeds"
        )
        return (
            f"With {self.seeds} seeds and {comparisons}, a true difference of "
            f"{self.difference:.3f} is found in {100 * POWER:.0f} % of repetitions, a smaller one "
            f"less often; {more} (reckoned from the spread of these runs, which is itself only "
            "roughly known)."
        )


def resolution(
    comparisons: Sequence[Mapping[str, Any]], *, alpha: float = ALPHA
) -> Resolution | None:
    """That of the comparisons of results.json on their first metric, which is the primary one.

    None under three seeds, or where one does not keep its spread.
    """
    # Differences of other metrics have spreads of their own.
    same = [one for one in comparisons if one.get("metric") == comparisons[0].get("metric")]
    spreads = [Spread(**found) for one in same if (found := one.get("spread"))]
    if not spreads or len(spreads) < len(same):
        return None
    spread, seeds, family = pooled(spreads), comparisons[0]["seeds"], len(comparisons)
    smallest = resolvable_difference(spread, seeds, comparisons=family, alpha=alpha)
    half: int | None = seeds
    if smallest > 0:
        half = seeds_to_resolve(smallest / 2, spread, comparisons=family, alpha=alpha)
    return Resolution(spread, seeds, family, smallest, half)
