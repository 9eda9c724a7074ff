"""The figures of a report, by the section that they stand in."""

from collections import Counter
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from crossattn.data.samples import PartSample
from crossattn.report import prose
from crossattn.report.figures.attention import head_heat_maps, pointing_scatter, without_pointing
from crossattn.report.figures.designs import MOST_PANELS, draw_designs
from crossattn.report.figures.gallery import Gallery, draw_gallery
from crossattn.report.figures.learning import Curves, learning_curves
from crossattn.report.figures.profiles import performance_profiles
from crossattn.report.figures.samples import draw_samples
from crossattn.report.figures.style import png
from crossattn.report.figures.variants import accuracy_by_split, forest_plot, knockout_plot
from crossattn.report.render.blocks import FigureBlock
from crossattn.report.render.markdown import markdown_text
from crossattn.report.results.designs import designs_of
from crossattn.report.results.runs import Results, metrics_in, scores_of_variants, variants_of
from crossattn.report.sections import head_figures
from crossattn.report.tables.cells import baseline_of, on_primary

# A figure of splits beyond this many panels would be a poster.
MOST_SPLITS = 18


def figure_makers(
    results: Results,
    curves: Curves | None = None,
    shown: Gallery | None = None,
    samples: Sequence[PartSample] = (),
) -> dict[str, Callable[[], Figure | None]]:
    """What draws each figure by its name; it returns None where the results have nothing for it.

    Arguments are those of `write_report`, with names that are plain text already.
    """
    runs, chance, primary = results["runs"], results["chance"], results["primary"]
    comparisons, causal = on_primary(results), metrics_in(results, "causal")
    hidden = any(metric.measure.name == "knockout" for metric in causal)
    splits = drawn_metrics([metric.name for metric in metrics_in(results, "task")], primary)
    baseline = results.get("baseline") or baseline_of(results)
    designs = designs_of(results, baseline)
    return {
        "samples": lambda: draw_samples(samples) if samples else None,
        "designs": lambda: draw_designs(designs, baseline) if designs else None,
        "scatter": lambda: pointing_scatter(runs, primary=primary, chance=chance),
        "differences": lambda: forest_plot(comparisons) if comparisons else None,
        "accuracy": lambda: accuracy_by_split(runs, splits, chance=chance) if splits else None,
        "profiles": lambda: _profiles(results),
        "gallery": lambda: draw_gallery(shown) if shown else None,
        "knockout": lambda: knockout_plot(runs, chance=chance) if hidden else None,
        "learning": lambda: learning_curves(curves) if curves else None,
        "heads": lambda: head_heat_maps(runs, chance=chance).get("pointing"),
    }


def drawn_metrics(names: Sequence[str], primary: str, most: int = MOST_SPLITS) -> list[str]:
    """The metrics that one figure has room for: the primary one and as many of each split.

    Example:
        >>> drawn_metrics(["iid/r1", "iid/r5", "iid/r10", "swap/text"], "iid/r5", most=3)
        ['iid/r1', 'iid/r5', 'swap/text']
    """
    before: Counter[str] = Counter()
    order = {}
    for name in sorted(names, key=lambda name: name != primary):
        split = name.split("/")[0]
        order[name] = name != primary, before[split]
        before[split] += 1
    kept = sorted(names, key=order.__getitem__)[:most]
    return [name for name in names if name in kept]


def _profiles(results: Results) -> Figure | None:
    """Of the question types of the primary metric, where there are several and chance is known."""
    found = scores_of_variants(results, variants_of(results["runs"]), results["primary"]) or {}
    several = len(found) > 1 and all(own.shape[1] > 1 for own in found.values())
    return performance_profiles(found) if several else None


def figure_blocks(
    results: Results,
    curves: Curves | None,
    shown: Gallery | None,
    samples: Sequence[PartSample],
) -> dict[str, list[FigureBlock]]:
    """The figures by the section that they stand in; a section without any is not there."""
    captions = dict(prose.FIGURES)
    if shown:
        captions["gallery"] += f" Shown: {markdown_text(shown.of)}."
    if without_pointing(results["runs"]):
        captions["scatter"] += f" {prose.STRIP}"
    if len(designs_of(results, results.get("baseline") or baseline_of(results))) > MOST_PANELS:
        captions["designs"] += f" {prose.SHARED_PANELS}"
    if (every := len(metrics_in(results, "task"))) > MOST_SPLITS:
        captions["accuracy"] += f" {prose.FIRST_PANELS.format(MOST_SPLITS, every)}"
    makers = figure_makers(results, curves, shown, samples)
    drawn = {name: make() for name, make in makers.items() if name != "heads"}
    return {
        name: [FigureBlock(name, captions[name], png(figure))]
        for name, figure in drawn.items()
        if figure
    } | {"heads": head_figures(results["runs"], results["chance"])}
