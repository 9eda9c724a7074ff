"""The tables of measures: a section of a report for each kind of evidence, whatever is registered.

Rows are variants, columns are metrics, and the first row is chance, where it is known. Cells are
means over seeds ± half a 95 % interval, or with the interval itself where the range of the metric
cuts it.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from crossattn.align.measures import MEASURES, Family, Metric
from crossattn.report import prose
from crossattn.report.render.blocks import DASH, Table, TableBlock
from crossattn.report.render.markdown import code
from crossattn.report.results.runs import (
    Results,
    chance_of,
    mean_with_interval,
    metric_values,
    metrics_in,
    normalised_iqm,
    references_of,
    tasks_of,
    variants_with,
)
from crossattn.report.tables.cells import format_of, with_interval, with_limits

# Kinds of evidence that have rows of an untrained model and of random attention.
REFERENCED = ("attention", "causal")
# The table of the splits that have one number each.
OTHERS = "others"


def measure_blocks(results: Results, family: Family) -> Iterator[TableBlock]:
    """The tables of one kind of evidence by split, place or measure.

    Captions say what columns mean, and what chance is there.

    Example:
        >>> metrics = {"iid/accuracy": 0.5, "iid/accuracy/colour": 0.25, "count/accuracy": 0.3}
        >>> results = {"runs": [{"variant": "blind", "seed": 0, "metrics": metrics}],
        ...            "chance": {"iid/accuracy/colour": 0.2}}
        >>> for block in measure_blocks(results, "task"):
        ...     header, rows = block.table
        ...     print(block.name, header, *rows)
        split-iid ['variant', 'all', 'colour'] ['chance', '-', '0.200'] ['blind', '0.500', '0.250']
        split-others ['variant', 'count'] ['blind', '0.300']
    """
    for name, metrics in _groups(results, family).items():
        prefix = {"task": "split-", "attention": "attention-"}.get(family, "")
        table = _table(results, metrics, name, family)
        file = prefix + re.sub(r"[^\w-]+", "-", name)
        yield TableBlock(file, _caption(name, metrics, table), table)


def _groups(results: Results, family: Family) -> dict[str, list[Metric]]:
    """The metrics of each table."""
    groups: dict[str, list[Metric]] = {}
    for metric in metrics_in(results, family):
        if family == "attention" and (metric.layer is None or metric.head is not None):
            continue
        name = metric.where if family in ("task", "attention") else metric.measure.name
        groups.setdefault(name, []).append(metric)
    if family == "attention":
        # One measure in all layers: it is what the eye compares.
        order = [*MEASURES.values()]
        for metrics in groups.values():
            metrics.sort(key=lambda metric: (order.index(metric.measure), metric.layer))
        return {place: groups[place] for place in (*prose.READINGS, *groups) if place in groups}
    if family == "task":
        singles = [metrics[0] for metrics in groups.values() if len(metrics) == 1]
        groups = {name: metrics for name, metrics in groups.items() if len(metrics) > 1}
        groups |= {OTHERS: singles} if singles else {}
    return groups


def _column(metric: Metric, table: str) -> str:
    """The head of a metric's column: what sets it apart from the others of its table."""
    measure, layer = metric.measure, "" if metric.layer is None else f", layer {metric.layer}"
    if table == OTHERS:
        return metric.where if measure.by_kind else metric.name
    if measure.family == "task":
        kind = re.sub("[/_]", " ", metric.kind)
        return kind if kind and measure.by_kind else f"{measure.head} {kind}".strip()
    if measure.family == "attention":
        return f"{measure.head} {metric.layer}"
    return measure.places.get(metric.where, metric.where) + layer


def _caption(name: str, metrics: Sequence[Metric], table: Table) -> str:
    """What a table holds, and what its row of chance means, where it has one."""
    measures = dict.fromkeys(metric.measure for metric in metrics)
    lead = prose.READINGS.get(name) or prose.SPLITS.get(name, "")
    if not lead and metrics[0].measure.family == "task":
        lead = f"The split {code(name)}."
    said = [lead, *dict.fromkeys(measure.meaning for measure in measures), prose.CELLS]
    first = table[1][0] if table[1] else [""]
    if first[0] == "chance":
        said += dict.fromkeys(measure.chance_meaning for measure in measures)
        by_text = metrics[0].measure.family in ("task", "causal")
        said += [prose.ZERO_CHANCE] if by_text and "0.000" in first else []
    return " ".join(filter(None, said))


def iqm_table(results: Results) -> Table | None:
    """Interquartile means over question types and seeds, for the splits that have question types.

    None where no split has two question types with known chance levels.
    """
    runs, chance = results["runs"], results["chance"]
    metrics = [metric.name for metric in metrics_in(results, "task")]
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
        [variant, *(with_limits(*(cells[row] or [math.nan] * 3)) for cells in found.values())]
        for row, variant in enumerate(variants)
    ]
    return ["variant", *found], rows


def _table(results: Results, metrics: Sequence[Metric], table: str, family: Family) -> Table:
    """A row for chance, where it is known, and one for each variant with any of the metrics.

    Of alignment (attention and causal use) also the reference rows.
    """
    names = [metric.name for metric in metrics]
    rows = []
    levels = [chance_of(results["chance"], name) for name in names]
    if any(level is not None for level in levels):
        cells = zip(levels, names, strict=True)
        rows.append(
            ["chance", *(DASH if x is None else format(x, format_of(name)) for x, name in cells)]
        )
    references = references_of(results) if family in REFERENCED else ()
    for runs in (references, results["runs"]):
        for variant in variants_with(runs, names):
            rows.append([variant, *(_cell(metric_values(runs, variant, n), n) for n in names)])
    return ["variant", *(_column(metric, table) for metric in metrics)], rows


def _cell(values: Any, metric: str) -> str:
    """Mean ± half its interval; a cut interval has no half and stands as it is."""
    if not len(values):
        return DASH
    mean, low, high = mean_with_interval(values, metric)
    spec = format_of(metric)
    if low != low:
        return format(mean, spec)
    whole = math.isclose(high - mean, mean - low, abs_tol=1e-9)
    return f"{mean:{spec}} ± {high - mean:{spec}}" if whole else with_interval(values, metric)
