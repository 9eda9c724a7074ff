"""The figure of a benchmark: ratios of times, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from crossattn.report.figures.style import (
    FONT,
    ROW,
    ReportFigure,
    legend,
    logarithmic,
    style_of,
    tidy,
    without_mathtext,
)

from .cases import shape_of


@without_mathtext
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
    figure = ReportFigure(0.5 + sum(heights))
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, (title, points) in zip(grid, panels.items(), strict=True):
        axes.axvline(1, color="black", linewidth=0.8)
        for row, label, middle, low, high in points:
            index = labels.index(label)
            place = rows[title].index(row) + 0.84 * ((index + 0.5) / len(labels) - 0.5)
            colour, marker = style_of(index)
            axes.plot([low, high], [place, place], color=colour, linewidth=1.3)
            axes.plot(middle, place, marker, color=colour, markersize=4)
        axes.set_title(title, fontsize=FONT, loc="left")
        axes.set_yticks(range(len(rows[title])), rows[title])
        axes.set_ylim(max(1, len(rows[title])) - 0.5, -0.5)
        for edge in range(len(rows[title]) - 1):
            axes.axhline(edge + 0.5, color="0.85", linewidth=0.6)
        tidy(axes)
        axes.tick_params(labelbottom=True)
    logarithmic(grid[-1])
    grid[-1].set_xlabel(xlabel, fontsize=FONT)
    if labels:
        legend(figure, labels)
    return figure


def _points(records, by_shape) -> list[tuple[str, str, float, float, float]]:
    """(row, label, ratio, its quartiles) of all but the references themselves."""
    return [
        (shape, name, found["ratio"], *found["ratio_quartiles"])
        if by_shape
        else (name, shape, found["ratio"], *found["ratio_quartiles"])
        for record in records
        for shape in [str(shape_of(record["shape"])) if by_shape else record["shape"]["name"]]
        for name, found in record["contestants"].items()
        if found.get("beside", name) != name
    ]
