"""The figures of a report: functions from numbers to `matplotlib.figure.Figure`, no global state.

Every figure is a `ReportFigure`: 6.2 inches wide, 930 pixels as a PNG. A variant has the same
colour and marker in all of them, by its place in the suite; the colours are those of Okabe and Ito
(2008), which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crossattn.report.figures.style import (
    COLOURS,
    DASHES,
    FONT,
    ROW,
    ReportFigure,
    label,
    legend,
    style_of,
    tidy,
    without_mathtext,
)
from crossattn.report.results.runs import (
    Runs,
    chance_of,
    mean_with_interval,
    metric_values,
    variants_of,
    variants_with,
)
from crossattn.report.stats.comparisons import winner_of
from crossattn.report.stats.ranges import SHARE, range_of
from crossattn.report.tables.cells import p_value_of

# Panels of `accuracy_by_split` that stand side by side.
PANELS_ACROSS = 3

# Conditions are no variants: the same colours would say that they were.
FIRST_KNOCKOUT_COLOUR = 4
KNOCKOUTS = {
    "intact": "nothing removed",
    "truth": "true region removed",
    "random": "equal random region removed",
    "rest": "all but the region removed",
}


@without_mathtext
def forest_plot(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    """Differences with corrected intervals, one dot for each seed, Holm p at the right.

    A filled square marks a comparison with a winner, an open one a comparison without.
    """
    figure = ReportFigure(0.9 + 0.42 * len(comparisons))
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    # A line with a projecting cap would seem to cross a 0 that its interval just leaves out.
    line: dict[str, Any] = {"linewidth": 1.6, "solid_capstyle": "butt"}
    for row, found in enumerate(comparisons):
        axes.scatter(
            found["seed_differences"],
            np.full(len(found["seed_differences"]), row + 0.22),
            s=9,
            color=COLOURS[1],
            linewidths=0,
        )
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [row, row], color=COLOURS[2], **line)
        face = COLOURS[2] if winner_of(found) else "white"
        axes.plot(found["difference"], row, "s", color=COLOURS[2], markerfacecolor=face)
        text = f"Holm p {p_value_of(found)}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=FONT)
    axes.set_yticks(
        range(len(comparisons)),
        [f"{label(c['variant'])} minus\n{label(c['baseline'])}" for c in comparisons],
    )
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xlabel(f"difference of {comparisons[0]['metric']}", fontsize=FONT)
    tidy(axes)
    return figure


@without_mathtext
def accuracy_by_split(runs: Runs, metrics: Sequence[str], *, chance: Mapping[str, float]) -> Figure:
    """A panel for each metric: every variant's seeds, mean and 95 % interval; chance is dashed."""
    variants = variants_of(runs)
    rows = -(-len(metrics) // PANELS_ACROSS)
    high = 0.55 + ROW * len(variants)
    figure = ReportFigure(0.3 + rows * high)
    grid = figure.subplots(rows, PANELS_ACROSS, squeeze=False)
    for place, (axes, metric) in enumerate(zip(grid.ravel(), metrics, strict=False)):
        values = [metric_values(runs, variant, metric) for variant in variants]
        for row, own in enumerate(values):
            _point(axes, own, row, style_of(row), room=0.8, metric=metric)
        level = chance_of(chance, metric)
        if level is not None:
            axes.axvline(level, color="black", linewidth=1, linestyle=DASHES)
        axes.set_title(label(metric), fontsize=FONT)
        axes.set_yticks(
            range(len(variants)), [] if place % PANELS_ACROSS else [*map(label, variants)]
        )
        axes.set_ylim(len(variants) - 0.4, -0.6)
        if range_of(np.concatenate(values), metric) == SHARE:
            axes.set_xlim(-0.03, 1.03)
            axes.set_xticks(np.linspace(0, 1, 6))
        tidy(axes)
    for axes in grid.ravel()[len(metrics) :]:
        axes.remove()
    figure.supxlabel("mean over seeds with 95 % interval; dashed: chance", fontsize=FONT)
    return figure


@without_mathtext
def knockout_plot(runs: Runs, *, chance: Mapping[str, float]) -> Figure:
    """Accuracy of each variant when parts of the context are hidden, beside the chance level."""
    kinds = [k for k in KNOCKOUTS if any(f"knockout/{k}" in run["metrics"] for run in runs)]
    variants = variants_with(runs, [f"knockout/{kind}" for kind in kinds])
    figure = ReportFigure(1.1 + len(variants) * (0.12 + ROW * len(kinds)))
    axes = figure.subplots()
    step = 0.84 / len(kinds)
    for row, variant in enumerate(variants):
        for index, kind in enumerate(kinds):
            values = metric_values(runs, variant, f"knockout/{kind}")
            place, style = row - 0.42 + step * (index + 0.4), index + FIRST_KNOCKOUT_COLOUR
            _point(axes, values, place, style_of(style), room=step)
    if (level := chance_of(chance, "knockout/truth")) is not None:
        axes.axvline(level, color="black", linewidth=1, linestyle=DASHES)
    axes.set_yticks(range(len(variants)), [*map(label, variants)])
    axes.set_ylim(len(variants) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    for edge in np.arange(0.5, len(variants) - 1):
        axes.axhline(edge, color="0.85", linewidth=0.6)
    words = "accuracy, mean over seeds with 95 % interval; dashed: chance"
    axes.set_xlabel(words, fontsize=FONT)
    tidy(axes)
    legend(figure, [KNOCKOUTS[kind] for kind in kinds], first_colour=FIRST_KNOCKOUT_COLOUR)
    return figure


def _point(axes, values, place, style, *, room, metric=""):
    """Mean and interval on a line, seeds as dots below; `room` is the distance of two lines."""
    if not len(values):
        return
    colour, marker = style
    mean, low, high = mean_with_interval(values, metric)
    below = np.full(len(values), place + 0.36 * room)
    axes.scatter(values, below, s=5, color=colour, alpha=0.5, linewidths=0)
    if low == low:
        axes.plot([low, high], [place, place], color=colour, linewidth=1.3)
    axes.plot(mean, place, marker, color=colour, markersize=4.5)
