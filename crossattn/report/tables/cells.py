"""What single cells of tables hold."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossattn.align.measures import find_metric
from crossattn.report.render.blocks import DASH
from crossattn.report.results.runs import Results, mean_with_interval
from crossattn.report.stats.paired import ALPHA, t_interval
from crossattn.shapes import Float


def baseline_of(results: Results) -> str | None:
    """The baseline: the first comparison is made with it; None where nothing was compared."""
    comparisons = results["comparisons"]
    return comparisons[0]["baseline"] if comparisons else None


def on_primary(results: Results) -> list[Mapping[str, Any]]:
    """The comparisons of the primary metric: claims may add some of other metrics at the end."""
    of = lambda found: found.get("metric", results["primary"])
    return [found for found in results["comparisons"] if of(found) == results["primary"]]


def format_of(metric: str) -> str:
    """How values of a metric are printed: as its measure says.

    Example:
        >>> format_of("iid/accuracy")
        '.3f'
    """
    found = find_metric(metric)
    return found.measure.format if found else ".3f"


def signed_interval(found: Mapping[str, Any]) -> str:
    """Difference with its interval, as in "+0.120 [+0.080, +0.160]".

    Example:
        >>> signed_interval({"difference": 0.1, "low": None, "high": None})
        '+0.100'
        >>> signed_interval({"difference": -0.0, "low": -0.0004, "high": 0.0004})
        '+0.000 [+0.000, +0.000]'
    """
    if found["difference"] is None:
        return DASH
    if found["low"] is None:
        return f"{found['difference']:+z.3f}"
    return f"{found['difference']:+z.3f} [{found['low']:+z.3f}, {found['high']:+z.3f}]"


def p_value(p: float | None) -> str:
    """A p-value with three digits, or four where three would put it on the other side of ALPHA.

    Example:
        >>> p_value(0.0321), p_value(0.04996), p_value(0.0001), p_value(None)
        ('0.032', '0.0499', '<0.001', '-')
    """
    if p is None:
        return DASH
    if p < 0.001:
        return "<0.001"
    # Cut, not rounded: 0.04999 is below 0.05 however many digits are shown.
    return f"{int(1e4 * p) / 1e4:.4f}" if round(p, 3) == ALPHA > p else f"{p:.3f}"


def p_value_of(found: Mapping[str, Any], name: str = "p_holm") -> str:
    """A p-value of a comparison; a dash where too few seeds allow no test, and so no interval.

    Example:
        >>> p_value_of({"low": None, "p_holm": 1.0}), p_value_of({"low": -0.1, "p_holm": 1.0})
        ('-', '1.000')
    """
    return p_value(None if found["low"] is None else found[name])


def with_interval(values: Float[np.ndarray, " seeds"], metric: str = "") -> str:
    """Mean over seeds with its interval, as tables print it; a dash without values.

    Example:
        >>> with_interval(np.array([0.98, 1.0, 1.0])), with_interval(np.array([0.8, 0.8]))
        ('0.993 [0.965, 1.000]', '0.800')
    """
    if not len(values):
        return DASH
    return with_limits(*mean_with_interval(values, metric), spec=format_of(metric))


def student_limits(values: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Student's 95 % interval of the mean, whatever the range of the metric; NaN under three."""
    low, high = t_interval(values)
    return float(low), float(high)


def with_limits(value: float, low: float, high: float, *, spec: str = ".3f") -> str:
    """A number with its interval, as tables print it; without it where the limits are NaN.

    Example:
        >>> with_limits(0.8, 0.4, 1.0), with_limits(0.8, np.nan, np.nan)
        ('0.800 [0.400, 1.000]', '0.800')
        >>> with_limits(np.nan, np.nan, np.nan)
        '-'
    """
    if np.isnan(value):
        return DASH
    return f"{value:{spec}}" + ("" if np.isnan(low) else f" [{low:{spec}}, {high:{spec}}]")


def plain_mean(values: Float[np.ndarray, " seeds"], metric: str = "") -> str:
    """Mean over seeds without its interval; a dash without values."""
    return format(values.mean(), format_of(metric)) if len(values) else DASH
