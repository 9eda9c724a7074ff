"""The figure of a plan: memory of a device and the roofline estimate, a row for each mesh."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from crossattn.report.figures.style import (
    COLOURS,
    DASHES,
    FONT,
    ReportFigure,
    logarithmic,
    tidy,
    without_mathtext,
)

from .chips import GIB
from .summary import MIB, PARTS

KINDS = ("parameters", "optimizer", "batch", "activations")
UNITS = {GIB: "GiB", MIB: "MiB"}
# Memory that is many times as large as what is held would leave no room for that.
LOOK_UP = 8
# Those of the bars mean something else.
STYLES = (("o", COLOURS[0]), ("s", COLOURS[6]), ("D", COLOURS[7]))


@without_mathtext
def plan_figure(
    entries: Sequence[Mapping[str, Any]], memory: Collection[int], *, title: str
) -> Figure:
    """Two panels side by side: what a device holds; what it sends, or a roofline estimate.

    Args:
      entries: of plan.json; of one slice, or of several, whose bytes sent are to be compared.
      memory: bytes of a device of each kind.
      title: of the figure.
    """
    height = 1.5 + 0.3 * len(entries)
    figure = ReportFigure(height)
    left, right = figure.subplots(1, 2, sharey=True)
    scaling = len({entry["topology"] for entry in entries}) > 1
    most, unit = _stack(left, [_held(entry) for entry in entries])
    if near := [one for one in memory if one < LOOK_UP * most]:
        for one in near:
            left.axvline(one / unit, color="black", linewidth=1, linestyle=DASHES)
        there = "dashed: HBM"
    else:
        there = f"HBM: {' and '.join(f'{one / GIB:.0f}' for one in sorted(memory))} GiB"
    left.set_xlabel(f"{UNITS[unit]} a device, training ({there})", fontsize=FONT)
    names = [entry["topology" if scaling else "mesh"] for entry in entries]
    left.set_yticks(range(len(entries)), names)
    left.set_ylim(len(entries) - 0.5, -0.5)
    if scaling:
        _, unit = _stack(right, [_sent(entry) for entry in entries])
        right.set_xlabel(f"{UNITS[unit]} a device sends, training", fontsize=FONT)
    else:
        _times(right, entries)
    for axes in (left, right):
        tidy(axes)
        handles, labels = axes.get_legend_handles_labels()
        # Every row has the same.
        first = dict(zip(labels, handles, strict=True))
        above: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2}
        axes.legend(first.values(), first, fontsize=FONT - 2, frameon=False, **above)
    figure.suptitle(title, fontsize=FONT)
    return figure


def _stack(axes: Any, rows: Sequence[Mapping[str, int | float]]) -> tuple[int | float, int]:
    """A bar for each row, of bytes by kind; the bytes of the longest, and the unit of the axis."""
    kinds = list(dict.fromkeys(kind for row in rows for kind in row))
    most = max(sum(row.values()) for row in rows)
    unit = GIB if most >= GIB else MIB
    for place, row in enumerate(rows):
        start = 0.0
        for index, kind in enumerate(kinds):
            colour, width = COLOURS[(index + 1) % len(COLOURS)], row.get(kind, 0.0) / unit
            axes.barh(place, width, 0.6, left=start, color=colour, label=kind)
            start += width
    return most, unit


def _times(axes: Any, entries: Sequence[Mapping[str, Any]]) -> None:
    for place, entry in enumerate(entries):
        for index, (part, seconds) in enumerate(entry["roofline_estimate"].items()):
            marker, colour = STYLES[index]
            axes.plot(seconds * 1e3, place, marker, color=colour, markersize=5, label=PARTS[part])
    axes.set_xlabel("ms a training step, roofline estimate", fontsize=FONT)
    logarithmic(axes, room=1 / 3)


def _sent(entry: Mapping[str, Any]) -> dict[str, int | float]:
    """Bytes that a device sends by kind of collective, as compiled."""
    sent: dict[str, int | float] = {}
    for one in entry.get("train", {}).get("collectives", ()):
        sent[one["kind"]] = sent.get(one["kind"], 0.0) + one["bytes"]
    return sent


def _held(entry: Mapping[str, Any]) -> dict[str, int | float]:
    """Bytes of a device in training: as compiled, or by formula where it does not fit."""
    by_formula = entry["estimate"]
    held = {kind: by_formula[kind] for kind in KINDS}
    step = entry.get("train", {})
    others = by_formula["parameters"]
    if step.get("fits"):
        held["batch"] = step["bytes"]["arguments"] - held["parameters"] - held["optimizer"]
        in_all = sum(step["bytes"].values())
        held["activations"] = min(held["activations"], step["bytes"]["temporaries"])
        others = in_all - sum(held.values())
    return {**held, "gradients and other temporaries": others}
