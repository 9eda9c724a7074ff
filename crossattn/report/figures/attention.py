"""Figures of where variants look: accuracy against pointing, and pointing by layer and head."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from crossattn.align.measures import MEASURES, find_metric
from crossattn.report.figures.style import (
    DASHES,
    FONT,
    WIDTH,
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
    place_of,
    variants_of,
)
from crossattn.report.stats.ranges import SHARE, range_of
from crossattn.shapes import Float

# Perceptually uniform, and the same to readers who do not tell red from green.
COLOUR_MAP = "cividis"
# So much of a cell's width may its number take, in points of font size per inch of cell.
FONT_PER_INCH = 24
# Cells that stand side by side in a row of panels.
CELLS_ACROSS = 16


def without_pointing(runs: Runs) -> list[str]:
    """The variants that have no attention over patches, or none that could point at a region.

    Example:
        >>> runs = [{"variant": "a", "seed": 0, "metrics": {"pointing/answer": 0.5}}]
        >>> without_pointing([*runs, {"variant": "b", "seed": 0, "metrics": {}}])
        ['b']
    """
    place = f"pointing/{place_of(runs)}"
    return [name for name in variants_of(runs) if not len(metric_values(runs, name, place))]


@without_mathtext
def pointing_scatter(runs: Runs, *, primary: str, chance: Mapping[str, float]) -> Figure | None:
    """The primary metric against pointing: a marker for each variant.

    Small dots are seeds, lines are 95 % intervals over seeds in both directions. Variants that do
    not attend to patches stand in a strip at the left. None where no variant points at anything.
    """
    variants = variants_of(runs)
    looked_at = f"pointing/{place_of(runs)}"
    points = {name: metric_values(runs, name, looked_at) for name in variants}
    strip = without_pointing(runs)
    if strip == variants:
        return None
    legend_lines = -(-len(variants) // 4)
    figure = ReportFigure(4.0 + 0.18 * legend_lines)
    widths = [0.4 + 0.35 * len(strip), 5] if strip else [1]
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    side, main = panels[0], panels[-1]
    for index, name in enumerate(variants):
        own = metric_values(runs, name, primary)
        if name in strip:
            place = strip.index(name)
            _cross(side, index, np.full(len(own), float(place)), own, primary)
        else:
            _cross(main, index, points[name], own, primary)
    if range_of(np.array([run["metrics"][primary] for run in runs]), primary) == SHARE:
        main.set_ylim(-0.03, 1.03)
    _scatter_axes(main, side, primary, len(strip))
    _chance_lines(main, side, chance_of(chance, looked_at), chance_of(chance, primary))
    legend(figure, variants)
    return figure


def _cross(axes, index, x, y, metric):
    """Seeds as dots, and their means as a marker with an interval in both directions."""
    colour, marker = style_of(index)
    axes.scatter(x, y, s=7, color=colour, alpha=0.5, linewidths=0)
    x_mean, *x_limits = mean_with_interval(x)
    y_mean, *y_limits = mean_with_interval(y, metric)
    if y_limits[0] == y_limits[0]:
        axes.plot(x_limits, [y_mean, y_mean], color=colour, linewidth=1.2)
        axes.plot([x_mean, x_mean], y_limits, color=colour, linewidth=1.2)
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.5, "zorder": 3}
    axes.plot(x_mean, y_mean, marker, color=colour, markersize=8, **edge)


def _scatter_axes(main, side, primary, strip):
    """`side` is the strip of those that do not point, or `main` itself where all do."""
    main.set_xlabel("pointing at the true region", fontsize=FONT)
    main.set_xlim(-0.03, 1.03)
    side.set_ylabel(label(primary), fontsize=FONT)
    if strip:
        side.set_xlim(-0.7, strip - 0.3)
        side.set_xticks([])
        side.set_xlabel("does not attend\nto patches", fontsize=FONT)
    for axes in {main, side}:
        tidy(axes)
        axes.grid(axis="y", color="0.9", linewidth=0.5)


def _chance_lines(axes, side, pointing, primary):
    """Dashed lines, with their names where no variant can stand: outside of the axes."""
    dashes = {"color": "black", "linewidth": 0.9, "linestyle": DASHES, "zorder": 1}
    words = {"fontsize": FONT - 1, "color": "0.25"}
    if pointing is not None:
        axes.axvline(pointing, **dashes)
        place = axes.get_xaxis_transform()
        words |= {"transform": place, "ha": "center", "va": "bottom"}
        axes.text(pointing, 1.01, f"chance {pointing:.3f}", **words)
    if primary is not None:
        for panel in {axes, side}:
            panel.axhline(primary, **dashes)
        place = axes.get_yaxis_transform()
        words |= {"transform": place, "ha": "left", "va": "center"}
        axes.text(1.01, primary, f"chance\n{primary:.3f}", **words)


def values_by_head(
    runs: Runs, variant: str, measure: str = "pointing"
) -> Float[np.ndarray, "layers heads"] | None:
    """A measure by layer and head, mean over seeds; NaN where a layer has no such.

    None where the variant has no such numbers.

    Example:
        >>> names = [f"pointing/answer/layer0/head{h}" for h in range(2)]
        >>> runs = [{"variant": "a", "seed": 0, "metrics": dict(zip(names, [0.25, 0.75]))}]
        >>> values_by_head(runs, "a")
        array([[0.25, 0.75]])
    """
    own = next(run["metrics"] for run in runs if run["variant"] == variant)
    place = _place(runs, measure)
    found = {}
    for metric in filter(None, map(find_metric, own)):
        if (metric.measure.name, metric.where) == (measure, place) and metric.head is not None:
            values = metric_values(runs, variant, metric.name)
            found[metric.layer, metric.head] = values.mean()
    if not found:
        return None
    grid = np.full(np.array(list(found)).max(0) + 1, np.nan)
    for where, value in found.items():
        grid[where] = value
    return grid


def _place(runs: Runs, measure: str) -> str:
    """Where single heads are measured; causal measures have explanations as places."""
    if MEASURES[measure].family == "causal":
        return "attention"
    return "predicted" if place_of(runs) == "caption" else "answer"


def head_heat_maps(runs: Runs, *, chance: Mapping[str, float]) -> dict[str, Figure]:
    """For each measure of single heads a heat map for each variant, on one scale.

    The colour bar marks chance. Variants without such numbers are left out, and so are measures
    that no variant has.
    """
    there = (find_metric(metric) for run in runs for metric in run["metrics"])
    names = dict.fromkeys(one.measure.name for one in there if one and one.head is not None)
    drawn = {name: _heat_maps(runs, name, chance) for name in names}
    return {name: figure for name, figure in drawn.items() if figure is not None}


@without_mathtext
def _heat_maps(runs: Runs, measure: str, chance: Mapping[str, float]) -> Figure | None:
    grids = {name: values_by_head(runs, name, measure) for name in variants_of(runs)}
    shown = {name: grid for name, grid in grids.items() if grid is not None}
    if not shown:
        return None
    low, high = MEASURES[measure].limits
    if not np.isfinite([low, high]).all():
        low, high = (f([f(grid[~np.isnan(grid)]) for grid in shown.values()]) for f in (min, max))
    layers, heads = (max(grid.shape[axis] for grid in shown.values()) for axis in (0, 1))
    columns = min(len(shown), max(1, CELLS_ACROSS // heads))
    rows = -(-len(shown) // columns)
    cell = (WIDTH - 0.9 - 0.35 * columns) / (columns * heads)
    height = max(0.26, min(cell, 0.4))
    figure = ReportFigure(0.55 + rows * (0.5 + height * layers))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    image = None
    for axes, (name, grid) in zip(panels, shown.items(), strict=False):
        font = min(FONT - 1, FONT_PER_INCH * cell)
        image = _heat_map(axes, name, grid, Normalize(low, high), font=font)
    for axes in panels[len(shown) :]:
        axes.remove()
    name = "pointing at the true region" if measure == "pointing" else MEASURES[measure].head
    place = _place(runs, measure) if MEASURES[measure].family == "causal" else place_of(runs)
    _colour_bar(figure, image, name, chance_of(chance, f"{measure}/{place}"))
    return figure


def _heat_map(axes, name, grid, norm, *, font):
    image = axes.imshow(grid, cmap=COLOUR_MAP, norm=norm, aspect="auto")
    for (layer, head), value in np.ndenumerate(grid):
        if not np.isnan(value):
            # White on the dark half of the map, black on the light one.
            ink = "white" if norm(value) < 0.5 else "black"
            axes.text(
                head, layer, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=font
            )
    axes.set_title(label(name), fontsize=FONT)
    axes.set_xticks(range(grid.shape[1]))
    axes.set_yticks(range(grid.shape[0]))
    axes.set_xlabel("head", fontsize=FONT - 1)
    axes.set_ylabel("layer", fontsize=FONT - 1)
    axes.tick_params(labelsize=FONT - 1, length=2)
    return image


def _colour_bar(figure: Any, image: Any, name: str, level: float | None) -> None:
    bar = figure.colorbar(image, ax=figure.axes, fraction=0.05, pad=0.02, aspect=15)
    bar.set_label(name, fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT - 1)
    if level is None:
        return
    # The map is dark at both usual places of chance: white is seen, and the name stands beside it.
    bar.ax.axhline(level, color="white", linewidth=1.6)
    low, high = bar.mappable.get_clim()
    ticks = [tick for tick in np.linspace(low, high, 6) if abs(tick - level) > 0.1 * (high - low)]
    bar.set_ticks([*ticks, level], labels=[*(f"{tick:.1f}" for tick in ticks), "chance"])
