"""The tables that go into detail: splits by question type, attention by layer, knock-outs.

Rows are variants, columns are metrics, and the first row is chance: what a model reaches that sees
no image. Cells are means over seeds ± half a 95 % interval, or with the interval itself where the
range of the metric cuts it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from crossattn.report.render.blocks import DASH, Table
from crossattn.report.results.runs import (
    chance_of,
    mean_with_interval,
    metric_values,
    normalised_iqm,
    tasks_of,
    variants_with,
)
from crossattn.report.tables.cells import metrics_of, with_interval

Results = Mapping[str, Any]

# What a model attends to and uses; all other metrics say what it can do.
ATTENTION = ("pointing", "mass", "image_mass", "knockout")
# The table of the splits that have one number each.
OTHERS = "others"


def split_tables(results: Results) -> dict[str, Table]:
    """A table for each split, its columns the question types; splits of one metric share a table.

    Example:
        >>> metrics = {"iid/accuracy": 0.5, "iid/accuracy/colour": 0.25, "count/accuracy": 0.3}
        >>> results = {"runs": [{"variant": "blind", "seed": 0, "metrics": metrics}],
        ...            "chance": {"iid/accuracy/colour": 0.2}}
        >>> for name, (header, rows) in split_tables(results).items():
        ...     print(name, header, *rows)
        iid ['variant', 'all', 'colour'] ['chance', '-', '0.200'] ['blind', '0.500', '0.250']
        others ['variant', 'count'] ['blind', '0.300']
    """
    groups: dict[str, list[str]] = {}
    for metric in metrics_of(results, ATTENTION, without=True):
        groups.setdefault(metric.split("/")[0], []).append(metric)
    tables = {
        split: _table(results, {_question(metric): metric for metric in metrics})
        for split, metrics in groups.items()
        if len(metrics) > 1
    }
    singles = [metrics[0] for metrics in groups.values() if len(metrics) == 1]
    if singles:
        columns = {metric.removesuffix("/accuracy"): metric for metric in singles}
        tables[OTHERS] = _table(results, columns)
    return tables


def attention_table(results: Results, reading: str) -> Table | None:
    """Pointing and mass at one kind of position in every layer, heads averaged; None without any.

    Args:
        results: the content of results.json.
        reading: "answer", "consumed" or "predicted".
    """
    layered = [
        metric
        for metric in metrics_of(results, ("pointing", "mass"))
        if re.fullmatch(rf"\w+/{reading}/layer\d+", metric)
    ]
    if not layered:
        return None
    # Pointing in all layers comes first: it is what the eye compares.
    layered.sort(key=lambda metric: (not metric.startswith("pointing"), _layer(metric)))
    columns = {f"{metric.split('/')[0]} {_layer(metric)}": metric for metric in layered}
    return _table(results, columns)


def knockout_table(results: Results) -> Table:
    """Accuracy with nothing hidden, and with a region hidden in all layers or in one."""
    names = {"intact": "nothing", "truth": "truth", "random": "random", "rest": "all but truth"}
    columns = {}
    for metric in metrics_of(results, ("knockout",)):
        _, kind, *layer = metric.split("/")
        suffix = f", layer {_layer(metric)}" if layer else ""
        columns[names.get(kind, kind) + suffix] = metric
    return _table(results, columns)


def iqm_table(results: Results) -> Table | None:
    """Interquartile means over question types and seeds, for the splits that have question types.

    None where no split has two question types with known chance levels.
    """
    runs, chance = results["runs"], results["chance"]
    metrics = metrics_of(results, ATTENTION, without=True)
    splits = [metric for metric in metrics if len(tasks_of(runs, metric)) > 1]
    variants = variants_with(runs, splits)
    found = {
        split: [normalised_iqm(runs, variant, split, chance=chance) for variant in variants]
        for split in splits
    }
    found = {split: cells for split, cells in found.items() if any(cells)}
    if not found:
        return None
    rows = [
        [variant, *(_interval(cells[row]) for cells in found.values())]
        for row, variant in enumerate(variants)
    ]
    return ["variant", *found], rows


def _table(results: Results, columns: Mapping[str, str]) -> Table:
    """A row for chance, where it is known, and one for each variant with any of the metrics."""
    runs = results["runs"]
    rows = []
    levels = [chance_of(results["chance"], metric) for metric in columns.values()]
    if any(level is not None for level in levels):
        rows.append(["chance", *(DASH if level is None else f"{level:.3f}" for level in levels)])
    for variant in variants_with(runs, list(columns.values())):
        values = [metric_values(runs, variant, metric) for metric in columns.values()]
        cells = [_cell(own, name) for own, name in zip(values, columns.values(), strict=True)]
        rows.append([variant, *cells])
    return ["variant", *columns], rows


def _question(metric: str) -> str:
    """What a column of a split's table holds: "all" questions, or those of a type."""
    _, *rest = metric.split("/")
    if rest == ["accuracy"]:
        return "all"
    return " ".join(rest[1:] if rest[:1] == ["accuracy"] else rest).replace("_", " ") or metric


def _layer(metric: str) -> int:
    return int(metric.split("/layer")[1].split("/")[0])


def _cell(values: Any, metric: str) -> str:
    """Mean ± half its interval; a cut interval has no half and stands as it is."""
    if not len(values):
        return DASH
    mean, low, high = mean_with_interval(values, metric)
    if low != low:
        return f"{mean:.3f}"
    whole = math.isclose(high - mean, mean - low, abs_tol=1e-9)
    return f"{mean:.3f} ± {high - mean:.3f}" if whole else with_interval(values, metric)


def _interval(found: Sequence[float] | None) -> str:
    if found is None:
        return DASH
    mean, low, high = found
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]" if low == low else f"{mean:.3f}"
