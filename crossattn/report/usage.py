"""The report of usage: explanations of answers beside the causal effects of parts of the picture.

`results` has runs, references and chance as results.json, and items: {variant: {metric: (seeds, N)
values of single answers or words}} of runs and references.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.align.measures import MEASURES, find_metric
from crossattn.align.verdict import NEGLIGIBLE
from crossattn.report import prose
from crossattn.report.render.blocks import DASH, Block, Heading, Table, TableBlock, TextBlock
from crossattn.report.render.escaping import plain_names
from crossattn.report.render.markdown import code
from crossattn.report.results.counts import count
from crossattn.report.results.runs import (
    Results,
    chance_of,
    metric_values,
    references_of,
    variants_of,
)
from crossattn.report.sections import head_figures, write_blocks
from crossattn.report.stats.estimate import FEWEST_SEEDS
from crossattn.report.tables.cells import student_limits, with_interval, with_limits
from crossattn.report.tables.main import verdict_on_use
from crossattn.report.usage_words import (
    EXPLANATIONS,
    HEAD_TABLE,
    HEADS,
    INTRODUCTION,
    OVER_ITEMS,
    OVER_SEEDS,
    TABLE,
    USE,
)
from crossattn.shapes import Float

# Columns of a table of explanations.
COLUMNS = ("spearman", "kendall", "deletion", "insertion")
GRIDS = ("heads", "heads-spearman")


def usage_blocks(results: Results) -> Iterator[Block]:
    """What report.md and report.html consist of."""
    results = plain_names(results)
    runs = results["runs"]
    yield Heading(f"{results['suite']}: does the model use what it attends to?", 1)
    yield Heading("Attention and use")
    yield TextBlock(f"{USE} {prose.VERDICT.format(negligible=NEGLIGIBLE)}")
    yield TextBlock(prose.REFERENCES)
    yield TableBlock("use", "Attention to the true region, and use of it.", use_table(results))
    yield from explanation_blocks(results)
    figures = [block for block in head_figures(runs, results["chance"]) if block.name in GRIDS]
    if figures:
        yield Heading("Layers and heads")
        yield TextBlock(HEADS)
        yield from figures
        for variant in variants_of(runs):
            yield TableBlock(
                f"heads-{variant}", f"{variant}, {HEAD_TABLE}", head_table(results, variant)
            )


def explanation_blocks(results: Results) -> Iterator[Block]:
    """The section that sets explanations beside causal effects: of usage, or of a suite."""
    yield Heading("Explanations beside causal effects")
    asked = {"answers": results["answers"], "split": code(results["split"])}
    yield TextBlock(INTRODUCTION.format(**asked, parts=results["parts"]))
    seeds = len({run["seed"] for run in results["runs"]})
    over = OVER_SEEDS if seeds >= FEWEST_SEEDS else OVER_ITEMS
    yield TextBlock(over.format(seeds=count(seeds, "seed")))
    known = {name: words for name, words in EXPLANATIONS.items() if _there(results, name)}
    yield TextBlock("\n".join(f"- **{name}**: {meaning}" for name, meaning in known.values()))
    for some in (results["runs"], references_of(results)):
        for variant in variants_of(some):
            table = explanation_table({**results, "runs": some}, variant)
            if table[1]:
                file = f"explanations-{variant.replace(' ', '-')}"
                yield TableBlock(file, f"{variant}, {TABLE}", table)


def usage_section(folder: Path) -> Iterator[Block]:
    """What `experiments.usage` found of a suite's runs, where it has been in the folder."""
    try:
        found: dict[str, Any] = json.loads((folder / "usage" / "usage.json").read_text())
        blocks = list(explanation_blocks(plain_names(found)))
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing, or what a report of today does not read
    yield from blocks


def write_usage(folder: Path, results: Results) -> list[TableBlock]:
    """Write report.md, report.html, figures/ and tables/ into a folder; returns the tables."""
    made = list(usage_blocks(results))
    write_blocks(folder, made, suite=f"{results['suite']}-usage", banners=[])
    return [block for block in made if isinstance(block, TableBlock)]


def use_table(results: Results) -> Table:
    """Pointing and knock-outs of each row with intervals, and the verdict on both."""
    header = ["model", "pointing minus chance", "loss without the region", "verdict"]
    rows = []
    for some in (references_of(results), results["runs"]):
        for variant in variants_of(some):
            own = {**results, "runs": some}
            chance = chance_of(results["chance"], "pointing/answer")
            values = functools.partial(values_of, own, variant)
            there = values("pointing/answer") - (chance or 0.0)
            used = values("knockout/random") - values("knockout/truth")
            rows.append([variant, _shown(there), _shown(used), verdict_on_use(values, own)])
    return header, rows


def explanation_table(results: Results, variant: str) -> Table:
    """A row for each explanation: rank agreement, deletion and insertion with their intervals."""
    names = [name for name in EXPLANATIONS if len(_seeds(results, variant, f"spearman/{name}"))]
    cell = lambda column, name: _cell(results, variant, f"{column}/{name}")
    rows = [[EXPLANATIONS[n][0], *(cell(column, n) for column in COLUMNS)] for n in names]
    if rows:
        rows.insert(0, ["chance", "0.000", "0.000", DASH, DASH])
    return ["explanation", *(MEASURES[column].head for column in COLUMNS)], rows


def head_table(results: Results, variant: str) -> Table:
    """A row for each head of each layer; pointing is there where regions are known."""
    own = next(run["metrics"] for run in results["runs"] if run["variant"] == variant)
    rows = []
    for metric in filter(None, map(find_metric, own)):
        if metric.measure.name == "spearman" and metric.head is not None:
            place = f"layer{metric.layer}/head{metric.head}"
            cells = [
                _cell(results, variant, name) for name in (f"pointing/answer/{place}", metric.name)
            ]
            rows.append([f"layer {metric.layer}, head {metric.head}", *cells])
    chance = chance_of(results["chance"], "pointing/answer")
    rows.insert(0, ["chance", DASH if chance is None else f"{chance:.3f}", "0.000"])
    return ["head", "pointing", "Spearman"], rows


def values_of(results: Results, variant: str, metric: str) -> Float[np.ndarray, " n"]:
    """What intervals are over: seeds; under three of them single items, mean over seeds."""
    seeds = _seeds(results, variant, metric)
    items = results["items"].get(variant, {}).get(metric)
    if len(seeds) >= FEWEST_SEEDS or items is None:
        return seeds
    return np.asarray(items, float).mean(axis=0)


def _seeds(results, variant, metric):
    return metric_values(results["runs"], variant, metric)


def _there(results, name):
    return any(f"spearman/{name}" in run["metrics"] for run in results["runs"])


def _shown(values: Float[np.ndarray, " n"]) -> str:
    """A mean difference with its interval, which is cut to no range."""
    return with_limits(float(values.mean()), *student_limits(values)) if len(values) else DASH


def _cell(results: Results, variant: str, metric: str) -> str:
    return with_interval(values_of(results, variant, metric), metric)
