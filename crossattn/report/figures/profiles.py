"""Performance profiles of variants over several tasks (Agarwal et al. 2021)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossattn.report.figures.style import (
    FONT,
    ReportFigure,
    legend,
    style_of,
    tidy,
    without_mathtext,
)
from crossattn.report.stats.aggregate import performance_profile, profile_band
from crossattn.shapes import Float

THRESHOLDS = np.linspace(0, 1, 101)


@without_mathtext
def performance_profiles(scores: Mapping[str, Float[np.ndarray, "seeds tasks"]]) -> Figure:
    """The share of runs on all tasks that score above each threshold, with its 95 % band.

    Args:
      scores: of each variant, normalised so that 0 is chance and 1 perfect in every task.
    """
    figure = ReportFigure(3.2)
    axes = figure.subplots()
    for index, own in enumerate(scores.values()):
        colour, marker = style_of(index)
        shares = performance_profile(own, THRESHOLDS)
        low, high = profile_band(own, THRESHOLDS)
        axes.fill_between(THRESHOLDS, low, high, color=colour, alpha=0.15, linewidth=0, step="post")
        style: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 4.5,
            "drawstyle": "steps-post",
        }
        axes.plot(THRESHOLDS, shares, markevery=(4 * index % 20, 20), linewidth=1.3, **style)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("threshold: normalised score, 0 is chance and 1 is perfect", fontsize=FONT)
    axes.set_ylabel("share of runs above it", fontsize=FONT)
    tidy(axes)
    legend(figure, list(scores), line=True)
    return figure
