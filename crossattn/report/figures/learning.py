"""Learning curves of all variants."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from crossattn.report.figures.style import (
    COLOURS,
    FONT,
    ReportFigure,
    legend,
    style_of,
    tidy,
    without_mathtext,
)

MARKERS_ON_A_CURVE = 6
PANELS_IN_A_ROW = 2
# variant -> seed -> {"step": [...], "loss": [...], "accuracy": [...], "loss/attention": [...]}
Curves = Mapping[str, Mapping[int, Mapping[str, Sequence[float | int]]]]


@without_mathtext
def learning_curves(curves: Curves) -> Figure:
    """Training loss, and accuracy where it was logged: mean, standard deviation, every seed.

    Where a loss is a sum of terms, each of these as well.

    Args:
        curves: for each variant and seed the lists step, loss and perhaps accuracy and terms of
            the loss, like "loss/attention". The mean is taken over the steps that all seeds of a
            variant logged.
    """
    logged = {name for by_seed in curves.values() for seed in by_seed.values() for name in seed}
    names: list[str] = [name for name in ("loss", "accuracy") if name in logged]
    names += sorted(name for name in logged if name.startswith("loss/"))
    columns = min(PANELS_IN_A_ROW, len(names))
    rows = -(-len(names) // columns)
    figure = ReportFigure(2.7 * rows + 0.18 * -(-len(curves) // 4))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.remove()
    for axes, name in zip(panels, names, strict=False):
        for index, by_seed in enumerate(curves.values()):
            _curve(axes, [seed for seed in by_seed.values() if name in seed], name, index)
        axes.set_xlabel("training step", fontsize=FONT)
        axes.set_ylabel(f"training {name}", fontsize=FONT)
        tidy(axes)
        if name == "loss" and axes.dataLim.y0 > 0:
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
