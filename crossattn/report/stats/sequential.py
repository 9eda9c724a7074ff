"""Seeds that are added after a look at the results, without more false winners.

Who tests at 5 % after 5 seeds, and again after 10 and 20 because nothing was decided, names false
winners in up to 12 % of suites. A spending function (Lan & DeMets 1983) shares alpha out among
looks that are planned beforehand. Here the look at n_k of at most n_K seeds is tested at its own
part, alpha (n_k - n_{k-1}) / n_K (the linear function of Kim & DeMets 1987): by Bonferroni's
inequality the looks together err with a probability of at most alpha, with any test, any number of
seeds, and Holm's procedure within each look. (Boundaries that reckon with the correlation of looks
would spend a little less, but hold for large samples only.)
"""

from collections.abc import Sequence

import numpy as np

from crossattn.report.stats.estimate import FEWEST_SEEDS
from crossattn.report.stats.paired import ALPHA
from crossattn.shapes import Float


def look_levels(looks: Sequence[int], *, alpha: float = ALPHA) -> Float[np.ndarray, " looks"]:
    """The level of each planned look; they add up to alpha.

    Args:
        looks: numbers of seeds after which results are tested, planned before the first.
        alpha: error rate of all looks together.

    Raises:
        ValueError: looks that do not ascend, or begin under three seeds.

    Example:
        >>> look_levels([5, 10, 20]).tolist()
        [0.0125, 0.0125, 0.025]
    """
    seeds = np.array(looks, dtype=float)
    if not len(seeds) or seeds[0] < FEWEST_SEEDS or (np.diff(seeds) <= 0).any():
        said = ", ".join(map(str, looks)) or "none"
        raise ValueError(f"looks are ascending numbers of {FEWEST_SEEDS} or more seeds, got {said}")
    return alpha * np.diff(seeds, prepend=0.0) / seeds[-1]


def level_of_look(seeds: int, looks: Sequence[int], *, alpha: float = ALPHA) -> float:
    """The level at which results of so many seeds are tested.

    Raises:
        ValueError: no look was planned at this number of seeds.

    Example:
        >>> level_of_look(10, [5, 10, 20])
        0.0125
    """
    levels = look_levels(looks, alpha=alpha)
    if seeds not in looks:
        planned = ", ".join(map(str, looks))
        raise ValueError(f"{seeds} seeds are there, and looks were planned at {planned}")
    return float(levels[list(looks).index(seeds)])
