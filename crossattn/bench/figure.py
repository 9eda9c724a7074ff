"""The figure of a benchmark: ratios of times, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from crossattn.report.figures.sheet import COLOURS, FONT, MARKERS, ROW, Sheet, as_it_stands

from .cases import Shape

__all__ = ["ratios"]


@as_it_stands
def ratios(
    groups: Mapping[str, Sequence[Mapping[str, Any]]], *, by_shape: bool, xlabel: str
) -> Figure:
    """A panel for each group of records, a dot with its quartiles for each ratio.

    Args:
      groups: title -> records of one setting, in which the same contestants took part.
      by_shape: rows are shapes and colours contestants; else the other way round.
      xlabel: what is divided by what.
    """
    panels = {title: _points(records, by_shape) for title, records in groups.items()}
    rows = {
        title: list(dict.fromkeys(row for row, *_ in points)) for title, points in panels.items()
    }
    labels = list(dict.fromkeys(label for points in panels.values() for _, label, *_ in points))
    heights = [0.6 + max(1, len(r)) * (0.08 + ROW * max(1, len(labels))) for r in rows.values()]
    figure = Sheet(0.5 + sum(heights))
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (title, points) in zip(grid, panels.items(), strict=True):
        axes.axvline(1, color="black", linewidth=0.8)
        for row, label, middle, low, high in points:
            index = labels.index(label)
            place = rows[title].index(row) + 0.84 * ((index + 0.5) / len(labels) - 0.5)
            colour = COLOURS[index % len(COLOURS)]
            axes.plot([low, high], [place, place], color=colour, linewidth=1.3)
            axes.plot(middle, place, MARKERS[index % len(MARKERS)], color=colour, markersize=4)
        axes.set_title(title, fontsize=FONT, loc="left")
        _axes(axes, rows[title])
    _ticks(grid[-1])
    grid[-1].set_xlabel(xlabel, fontsize=FONT)
    _legend(figure, labels)
    return figure


def _points(records, by_shape) -> list[tuple[str, str, float, float, float]]:
    """(row, label, ratio, its quartiles) of all but the references themselves."""
    return [
        (shape, name, found["ratio"], *found["ratio_quartiles"])
        if by_shape
        else (name, shape, found["ratio"], *found["ratio_quartiles"])
        for record in records
        for shape in [str(Shape(**record["shape"]))]
        for name, found in record["contestants"].items()
        if found.get("beside", name) != name
    ]


def _axes(axes, rows) -> None:
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for edge in range(len(rows) - 1):
        axes.axhline(edge + 0.5, color="0.85", linewidth=0.6)
    axes.tick_params(labelsize=FONT, labelbottom=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def _ticks(axes) -> None:
    """Plain numbers; the default writes powers of ten, and none at all within one of them."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low)
    steps = (1, 1.5, 2, 3, 5, 7) if decades < 1.5 else (1, 2, 5) if decades < 4 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure, labels) -> None:
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linestyle="",
            label=label,
        )
        for index, label in enumerate(labels)
    ]
    columns = max(1, min(8, 80 // (max(map(len, labels), default=0) + 4)))
    if handles:
        figure.legend(
            handles=handles, loc="outside upper center", ncols=columns, fontsize=FONT, frameon=False
        )
