"""The report of one checkpoint: tables, and figures of what single layers do."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from crossattn.report.figures.gallery import Gallery, draw_gallery
from crossattn.report.figures.style import (
    FONT,
    ReportFigure,
    legend,
    png,
    style_of,
    tidy,
    without_mathtext,
)
from crossattn.report.render.blocks import Block, FigureBlock, Heading, TableBlock, TextBlock
from crossattn.report.render.escaping import plain_names
from crossattn.report.render.markdown import code
from crossattn.report.results.runs import chance_of
from crossattn.report.sections import (
    evidence_sections,
    explorer_link,
    head_figures,
    write_blocks,
)

READINGS = ("answer", "consumed", "predicted")
HIDDEN = {"truth": "true region hidden", "random": "random region hidden"}


def blocks(record: Mapping[str, Any], shown: Gallery | None, explorer: str = "") -> Iterator[Block]:
    """What report.md and report.html consist of.

    Args:
      record: the content of metrics.json.
      shown: pictures with the attention of words, where there are any.
      explorer: whose words explore.html shows, which lies beside; "" where there is none.
    """
    record, shown = plain_names(record), plain_names(shown)
    variant, split = record["variant"], record["split"]
    chance, metrics = record["chance"], record["metrics"]
    runs = [{"variant": variant, "seed": record["seed"], "metrics": metrics}]
    references = [
        {"variant": name, "seed": record["seed"], "metrics": row}
        for name, row in record.get("references", {}).items()
    ]
    results = {"runs": runs, "chance": chance, "references": references}
    yield Heading(f"{record['suite']}: {variant}, seed {record['seed']}, step {record['step']}", 1)
    yield TextBlock(f"Attention, knock-outs and captions are measured on the split {code(split)}.")
    yield from explorer_link(plain_names(explorer))
    figures = {"heads": head_figures(runs, chance)}
    if shown is not None:
        caption = (
            f"What single words look at after step {record['step']}, on pictures of the split "
            f"{code(split)} that were fixed by seed; a white line is the true region."
        )
        figures["gallery"] = [FigureBlock("gallery", caption, png(draw_gallery(shown)))]
    if (figure := layers(metrics, chance)) is not None:
        caption = (
            "What single layers look at, and what hiding a region from one layer alone does to "
            "the answers; dashed: chance, dotted: nothing hidden."
        )
        figures["knockout"] = [FigureBlock("layers", caption, png(figure))]
    yield from evidence_sections(results, figures)


def write_evaluation(
    folder: Path, record: Mapping[str, Any], shown: Gallery | None, explorer: str = ""
) -> list[TableBlock]:
    """Write report.md, report.html, figures/ and tables/ into a folder; returns the tables."""
    made = list(blocks(record, shown, explorer))
    write_blocks(folder, made, suite=f"{record['suite']}-{record['variant']}", banners=[])
    return [block for block in made if isinstance(block, TableBlock)]


@without_mathtext
def layers(metrics: Mapping[str, float], chance: Mapping[str, float]) -> Figure | None:
    """Pointing, and answers with a region hidden, in every layer; None without either.

    A bar for each layer; the last group of the knock-outs hides the region in all layers.
    """
    groups = {
        "pointing": {name: _by_layer(metrics, f"pointing/{name}") for name in READINGS},
        "accuracy": {name: _by_layer(metrics, f"knockout/{name}") for name in HIDDEN},
    }
    groups = {axis: {n: x for n, x in series.items() if x} for axis, series in groups.items()}
    groups = {axis: series for axis, series in groups.items() if series}
    if not groups:
        return None
    for name, values in groups.get("accuracy", {}).items():
        values["all"] = metrics[f"knockout/{name}"]
    figure = ReportFigure(2.9)
    panels = figure.subplots(1, len(groups), squeeze=False)[0]
    labels: list[str] = []
    for axes, (ylabel, series) in zip(panels, groups.items(), strict=True):
        _bars(axes, series, first=len(labels))
        labels += [HIDDEN.get(name, f"pointing, {name}") for name in series]
        axes.set_ylabel(ylabel, fontsize=FONT)
        metric = "pointing/answer" if ylabel == "pointing" else "knockout/truth"
        _line(axes, chance_of(chance, metric), (0, (4, 3)))
        if ylabel == "accuracy":
            _line(axes, metrics.get("knockout/intact"), (0, (1, 1.5)))
    legend(figure, labels)
    return figure


def _by_layer(metrics: Mapping[str, float], name: str) -> dict[str, float]:
    """Values of a metric by layer."""
    found = {f"{name}/layer{layer}": str(layer) for layer in range(len(metrics))}
    return {layer: metrics[metric] for metric, layer in found.items() if metric in metrics}


def _bars(axes: Any, series: Mapping[str, Mapping[str, float]], *, first: int) -> None:
    """One group for each layer, one bar in it for each series."""
    groups = list(dict.fromkeys(group for values in series.values() for group in values))
    width = 0.8 / len(series)
    for index, values in enumerate(series.values()):
        for place, group in enumerate(groups):
            if group in values:
                x = place + width * (index - (len(series) - 1) / 2)
                colour, marker = style_of(first + index)
                axes.bar(x, values[group], width * 0.9, color=colour, alpha=0.75)
                axes.plot(x, values[group], marker, color=colour, markersize=4.5)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_xlabel("layer", fontsize=FONT)
    axes.set_ylim(0, 1.05)
    tidy(axes)
    axes.grid(visible=False, axis="x")
    axes.grid(axis="y", color="0.9", linewidth=0.5)


def _line(axes: Any, level: float | None, dashes: Any) -> None:
    if level is not None:
        axes.axhline(level, color="black", linewidth=1, linestyle=dashes)
