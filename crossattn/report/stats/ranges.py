"""What values a metric can have, and which end of them is the better one.

An interval never leaves the range of its metric: it is cut there. A value outside cannot be the
true one, so the cut interval covers as often as the whole one, and it leaves 0 out where that does.
"""

import math

import numpy as np

from crossattn.align.measures import SHARE, find_metric
from crossattn.shapes import Float

# Costs of a run have such names: step_seconds, parameters.
COST = "cost/"

Limits = tuple[float, float]


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one.

    Example:
        >>> lower_is_better("test/perplexity"), lower_is_better("pairs/accuracy")
        (True, False)
        >>> lower_is_better("cost/step_seconds")
        True
    """
    if metric.startswith(COST):
        return True
    found = find_metric(metric)
    return found is not None and found.measure.lower_is_better


def range_of(values: Float[np.ndarray, "..."], metric: str = "") -> Limits:
    """The range of a metric: its measure's, or by its values: shares, amounts, any numbers.

    Example:
        >>> range_of(np.array([0.2, 1.0])), range_of(np.array([3.5]), "test/perplexity")
        ((0.0, 1.0), (1.0, inf))
        >>> range_of(np.array([100.0, 900.0])), range_of(np.array([-2.0]))
        ((0.0, inf), (-inf, inf))
        >>> range_of(np.array([0.2, 0.9]), "cost/step_seconds")
        (0.0, inf)
    """
    found = find_metric(metric)
    amount = (0.0, math.inf)
    promised = found.measure.limits if found else amount if metric.startswith(COST) else SHARE
    # A value beyond the range that a name promises (a rounded one, say) is of the wider range.
    ranges = [promised, amount]
    fitting = (r for r in ranges if values.size and r[0] <= values.min() and values.max() <= r[1])
    return next(fitting, (-math.inf, math.inf))


def clip_interval(low: float, high: float, limits: Limits) -> Limits:
    """An interval within a range; NaN limits stay.

    Example:
        >>> clip_interval(-0.2, 0.4, SHARE), clip_interval(0.983, 1.007, SHARE)
        ((0.0, 0.4), (0.983, 1.0))
    """
    return float(np.maximum(low, limits[0])), float(np.minimum(high, limits[1]))
