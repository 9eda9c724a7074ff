"""The figures of a report: functions from numbers to `matplotlib.figure.Figure`, no global state.

Every figure is a `Sheet`: 6.2 inches wide, 930 pixels as a PNG, its names printed as they stand. A
variant has the same colour and marker in all of them, by its place in the suite; the colours are
those of Okabe and Ito (2008), which colour-blind readers can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from crossattn.report.comparisons import winner_of
from crossattn.report.ranges import SHARE, range_of
from crossattn.report.runs import (
    chance_of,
    mean_with_interval,
    metric_values,
    variants_of,
    variants_with,
)
from crossattn.report.sheet import Sheet, as_it_stands, label
from crossattn.report.tables import p_value

__all__ = [
    "Curves",
    "accuracy_by_split",
    "forest",
    "knockout",
    "learning_curves",
    "legend",
    "png",
    "style_of",
    "tidy",
]

Runs = Sequence[Mapping[str, Any]]
# variant -> seed -> {"step": [...], "loss": [...], "accuracy": [...]}
Curves = Mapping[str, Mapping[int, Mapping[str, Sequence[float | int]]]]

DOTS_PER_INCH = 150
ROW = 0.16
FONT = 8
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F")
MARKERS = "osD^vPX*"
DASHES = (0, (4, 3))
# Panels of `accuracy_by_split` that stand side by side.
PANELS_ACROSS = 3
MARKERS_ON_A_CURVE = 6

# Conditions are no variants: the same colours would say that they were.
FIRST_KNOCKOUT_COLOUR = 4
KNOCKOUTS = {
    "intact": "nothing removed",
    "truth": "true region removed",
    "random": "equal random region removed",
    "rest": "all but the true region removed",
}


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file.

    Example:
        >>> png(Figure(figsize=(1, 1)))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


@as_it_stands
def learning_curves(curves: Curves) -> Figure:
    """Training loss, and accuracy where it was logged: mean, standard deviation, every seed.

    Args:
        curves: for each variant and seed the lists step, loss and perhaps accuracy. The mean is
            taken over the steps that all seeds of a variant logged.
    """
    logged = {name for by_seed in curves.values() for seed in by_seed.values() for name in seed}
    names = [name for name in ("loss", "accuracy") if name in logged]
    figure = Sheet(2.7 + 0.18 * -(-len(curves) // 4))
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for index, by_seed in enumerate(curves.values()):
            _curve(axes, [seed for seed in by_seed.values() if name in seed], name, index)
        axes.set_xlabel("training step", fontsize=FONT)
        axes.set_ylabel(f"training {name}", fontsize=FONT)
        tidy(axes)
        if name == "loss":
            _log_axis(axes)
    legend(figure, list(curves), line=True)
    return figure


def _log_axis(axes):
    """Ticks at 1, 2 and 5 with plain numbers; the default writes 3 x 10^-1 and fills the margin."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _curve(axes, seeds, name, index):
    colour, marker = style_of(index)
    for seed in seeds:
        axes.plot(seed["step"], seed[name], color=colour, linewidth=0.5, alpha=0.35)
    steps = sorted(set.intersection(*(set(seed["step"]) for seed in seeds))) if seeds else []
    if not steps:
        return
    logged = [dict(zip(seed["step"], seed[name], strict=True)) for seed in seeds]
    values = np.array([[seed[step] for step in steps] for seed in logged])
    mean, spread = values.mean(0), values.std(0, ddof=1) if len(values) > 1 else 0.0
    # Markers start at different steps, or they would hide each other while curves lie together.
    every = max(1, len(steps) // MARKERS_ON_A_CURVE)
    marks = (index * every // len(COLOURS), every)
    axes.plot(
        steps, mean, marker, linestyle="-", color=colour, linewidth=1.4, markersize=4,
        markevery=marks,
    )  # fmt: skip
    # No band beyond what was seen: a loss is above 0, an accuracy at most 1.
    lower, upper = (
        np.maximum(mean - spread, values.min(0)),
        np.minimum(mean + spread, values.max(0)),
    )
    axes.fill_between(steps, lower, upper, color=colour, alpha=0.15, linewidth=0)


@as_it_stands
def forest(comparisons: Sequence[Mapping[str, Any]]) -> Figure:
    """Differences with corrected intervals, one dot for each seed, Holm p at the right.

    A filled square marks a comparison with a winner, an open one a comparison without.
    """
    figure = Sheet(0.9 + 0.42 * len(comparisons))
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
        text = f"Holm p {p_value(found['p_holm'])}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center", fontsize=FONT)
    axes.set_yticks(
        range(len(comparisons)),
        [f"{label(c['variant'])} minus\n{label(c['baseline'])}" for c in comparisons],
    )
    axes.set_ylim(len(comparisons) - 0.5, -0.5)
    axes.set_xlabel(f"difference of {comparisons[0]['metric']}", fontsize=FONT)
    tidy(axes)
    return figure


@as_it_stands
def accuracy_by_split(runs: Runs, metrics: Sequence[str], *, chance: Mapping[str, float]) -> Figure:
    """A panel for each metric: every variant's seeds, mean and 95 % interval; chance is dashed."""
    variants = variants_of(runs)
    rows = -(-len(metrics) // PANELS_ACROSS)
    high = 0.55 + ROW * len(variants)
    figure = Sheet(0.3 + rows * high)
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


@as_it_stands
def knockout(runs: Runs, *, chance: Mapping[str, float]) -> Figure:
    """Accuracy of each variant when parts of the context are hidden, beside the chance level."""
    kinds = [k for k in KNOCKOUTS if any(f"knockout/{k}" in run["metrics"] for run in runs)]
    variants = variants_with(runs, [f"knockout/{kind}" for kind in kinds])
    figure = _rows_figure(len(variants), len(kinds))
    axes = figure.subplots()
    for row, variant in enumerate(variants):
        columns = [metric_values(runs, variant, f"knockout/{kind}") for kind in kinds]
        _points(axes, columns, row, first_colour=FIRST_KNOCKOUT_COLOUR)
    level = chance_of(chance, "knockout/truth")
    if level is not None:
        axes.axvline(level, color="black", linewidth=1, linestyle=DASHES)
    _rows_axes(axes, variants, "accuracy, mean over seeds with 95 % interval; dashed: chance")
    legend(figure, [KNOCKOUTS[kind] for kind in kinds], first_colour=FIRST_KNOCKOUT_COLOUR)
    return figure


def _rows_figure(groups, points):
    return Sheet(1.1 + groups * (0.12 + ROW * points))


def _points(axes, columns, row, *, first_colour=0):
    """One line for each array of values within a row."""
    step = 0.84 / len(columns)
    for index, values in enumerate(columns):
        place = row - 0.42 + step * (index + 0.4)
        _point(axes, values, place, style_of(index + first_colour), room=step)


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


def _rows_axes(axes, labels, xlabel):
    axes.set_yticks(range(len(labels)), [*map(label, labels)])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(-0.03, 1.03)
    for edge in np.arange(0.5, len(labels) - 1):
        axes.axhline(edge, color="0.85", linewidth=0.6)
    axes.set_xlabel(xlabel, fontsize=FONT)
    tidy(axes)


def style_of(index: int) -> tuple[str, str]:
    """Colour and marker of the variant at a place in its suite.

    Example:
        >>> style_of(0), style_of(8) == style_of(0)
        (('#000000', 'o'), True)
    """
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]


def tidy(axes: Any) -> None:
    """Small labels, no frame at the top and right, and a faint upright grid."""
    axes.tick_params(labelsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def legend(
    figure: Figure, names: Sequence[str], *, line: bool = False, first_colour: int = 0
) -> None:
    """A legend above the panels, where it hides nothing; `line`: its markers stand on lines."""
    labels = [*map(label, names)]
    handles = [
        Line2D(
            [],
            [],
            color=style_of(style)[0],
            marker=style_of(style)[1],
            markersize=5,
            linestyle="-" if line else "",
            label=name,
        )
        for style, name in enumerate(labels, start=first_colour)
    ]
    # Four labels of about 16 letters fill a line.
    columns = max(1, min(4, 80 // (max(map(len, labels)) + 4)))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, fontsize=FONT, frameon=False
    )
