"""How soon variants learn: steps to a share of what the baseline's training ends with."""

from collections.abc import Mapping, Sequence

import numpy as np

from crossattn.report.figures.learning import Curves
from crossattn.report.render.blocks import DASH, Table

SHARE = 0.9
# One batch is too few texts: an average is over so large a part of a curve.
PART = 0.05


def speed_table(curves: Curves | None, baseline: str | None) -> Table | None:
    """Steps that each variant takes to 90 % of the baseline's last training accuracy.

    Each seed is compared with the same seed of the baseline, which has seen the same texts.

    Args:
        curves: training accuracy by step, of each variant and seed.
        baseline: name of a variant, or None.

    Returns:
        Of each variant the mean step with the earliest and the latest, and how many seeds got
        there; None where the baseline has no curves of accuracy.

    Example:
        >>> rising = {"step": [10, 20, 30, 40], "accuracy": [0.0, 0.5, 1.0, 1.0]}
        >>> low = {"step": [10, 20, 30, 40], "accuracy": [0.0, 0.5, 0.5, 0.5]}
        >>> speed_table({"a": {0: rising}, "b": {0: low}}, "a")[1]
        [['a', '30', '30 to 30', '1 of 1'], ['b', '-', '-', '0 of 1']]
    """
    own = {} if curves is None or baseline is None else curves.get(baseline, {})
    goals = {
        seed: SHARE * float(averages(curve["accuracy"])[-1])
        for seed, curve in own.items()
        if curve.get("accuracy")
    }
    if curves is None or not goals:
        return None
    return ["variant", "steps", "range", "seeds"], [
        [variant, *_row(by_seed, goals)] for variant, by_seed in curves.items()
    ]


def averages(values: Sequence[float]) -> np.ndarray:
    """The mean of so many last values at each, NaN where there are fewer.

    >>> averages([1.0] * 20 + [3.0] * 20)[[0, 19, 20, 21]].tolist()
    [nan, 1.0, 2.0, 3.0]
    """
    size = max(1, round(PART * len(values)))
    found = np.convolve(values, np.ones(size) / size, "valid")
    return np.concatenate([np.full(size - 1, np.nan), found])


def _row(by_seed: Mapping[int, Mapping[str, Sequence[float | int]]], goals: Mapping[int, float]):
    steps = []
    asked = [seed for seed in by_seed if seed in goals and by_seed[seed].get("accuracy")]
    for seed in asked:
        curve = by_seed[seed]
        reached = np.flatnonzero(averages(curve["accuracy"]) >= goals[seed])
        steps += [curve["step"][reached[0]]] if len(reached) else []
    there = f"{len(steps)} of {len(asked)}"
    if not steps:
        return [DASH, DASH, there]
    # A mean over the seeds that got there would call a variant fast of which most did not.
    mean = f"{np.mean(steps):,.0f}" if len(steps) == len(asked) else DASH
    return [mean, f"{min(steps):,} to {max(steps):,}", there]
