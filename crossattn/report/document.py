"""report.md: what a suite found, how sure that is, and how to read every number."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossattn.files import write_atomically
from crossattn.report import figures, prose, tables
from crossattn.report.comparisons import judge, winner_of
from crossattn.report.gallery import Gallery, gallery
from crossattn.report.runs import mean_with_interval, metric_values, variants_of
from crossattn.report.statistics import ALPHA
from crossattn.report.tables import DASH, baseline_of, markdown, metrics_of, signed_interval

__all__ = ["write_report"]

Results = Mapping[str, Any]

# What a model attends to and uses; all other metrics say what it can do.
ATTENTION = ("pointing", "mass", "knockout")
# A figure of splits beyond this many rows would be a poster.
MOST_SPLITS = 16


def write_report(
    results: Results,
    out_dir: Path,
    *,
    title: str,
    claims: Sequence[Sequence[str]] = (),
    curves: figures.Curves | None = None,
    shown: Gallery | None = None,
    notes: Sequence[str] = (),
    command: str,
) -> Path:
    """Write report.md and its figures into a folder; each file appears whole or not at all.

    Args:
        results: the content of results.json: suite, primary, runs, comparisons, chance,
            learning_rate_sweep and environment, whose timings hold the cost of each variant.
        out_dir: an existing folder; figures go into its subfolder `figures`.
        title: what the suite asks, in a few words.
        claims: the declared pairs (better, worse), each among the comparisons.
        curves: training loss (and accuracy) of each variant and seed, for `learning_curves`.
        shown: pictures with the attention of words.
        notes: what the suite has to say about itself, one paragraph each.
        command: the command that makes these results again.

    Returns:
        The path of report.md.

    Raises:
        ValueError: if a claim was not compared.
    """
    pictures = _draw(results, curves, shown)
    sections = [
        f"# {results['suite']}: {title}",
        _summary(results),
        *notes,
        "## Results",
        markdown(tables.main_table(results)),
        markdown(tables.alignment_table(results)),
        prose.TABLES,
        *_claims(results, claims),
        *_comparisons(results, pictures),
        *_details(results, pictures),
        "## What the numbers mean",
        *_methods(results),
        *_environment(results),
        "## How to make this again",
        f"```\n{command}\n```",
    ]
    (out_dir / "figures").mkdir(exist_ok=True)
    for name, data in pictures.items():
        write_atomically(out_dir / "figures" / f"{name}.png", data)
    path = out_dir / "report.md"
    write_atomically(path, ("\n\n".join(sections) + "\n").encode())
    return path


def _draw(results, curves, shown):
    """The figures for which there is something to draw, as PNG."""
    runs, chance = results["runs"], results["chance"]
    drawn = {}
    if results["comparisons"]:
        drawn["differences"] = figures.forest(results["comparisons"])
    splits = metrics_of(results, ATTENTION, without=True)[:MOST_SPLITS]
    if splits:
        drawn["accuracy"] = figures.accuracy_by_split(runs, splits, chance=chance)
    if curves:
        drawn["learning"] = figures.learning_curves(curves)
    if metrics_of(results, ["knockout"]):
        drawn["knockout"] = figures.knockout(runs, chance=chance)
    if shown is not None:
        drawn["gallery"] = gallery(shown)
    return {name: figures.png(figure) for name, figure in drawn.items()}


def _summary(results):
    """One paragraph that says what was established, and names no winner beyond that."""
    runs, primary, baseline = results["runs"], results["primary"], baseline_of(results)
    variants = variants_of(runs)
    seeds = len({run["seed"] for run in runs})
    text = [f"{len(variants)} variants, {_count(seeds, 'seed')} each; primary metric `{primary}`."]
    if baseline is None:
        return " ".join([*text, "There is one variant, so there is nothing to compare."])
    mean, low, high = mean_with_interval(metric_values(runs, baseline, primary))
    spread = f" [{low:.3f}, {high:.3f}]" if seeds > 1 else ""
    text.append(f"The baseline **{baseline}** reaches {mean:.3f}{spread}.")
    if seeds == 1:
        return " ".join([*text, "One seed allows no claim: no winner is named."])
    decided = [found for found in results["comparisons"] if winner_of(found)]
    text += [_sentence(found) for found in decided]
    undecided = [found for found in results["comparisons"] if not winner_of(found)]
    if undecided:
        pairs = "; ".join(
            f"{found['variant']} and {found['baseline']} ({signed_interval(found)})"
            for found in undecided
        )
        text.append(f"No winner is named between {pairs}.")
    return " ".join(text)


def _sentence(found):
    better = winner_of(found)
    worse = found["baseline"] if better == found["variant"] else found["variant"]
    size = abs(found["difference"])
    low, high = sorted(abs(found[name]) for name in ("low", "high"))
    return f"**{better}** is better than **{worse}** by {size:.3f} [{low:.3f}, {high:.3f}]."


def _count(number, thing):
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def _claims(results, claims):
    if not claims:
        return
    yield "## Claims"
    rows = []
    for verdict in judge(claims, results["comparisons"]):
        found = {"difference": verdict.difference, "low": verdict.low, "high": verdict.high}
        rows.append(
            [
                f"{verdict.better} > {verdict.worse}",
                f"**{verdict.verdict}**",
                signed_interval(found),
                tables.p_value(verdict.p_holm),
            ]
        )
    yield markdown((["claim", "verdict", "difference [corrected]", "Holm p"], rows))
    yield prose.VERDICTS


def _comparisons(results, pictures):
    if not results["comparisons"]:
        return
    yield "## Comparisons"
    yield from _figure("differences", pictures)
    yield markdown(tables.comparison_table(results))


def _details(results, pictures):
    yield "## Splits and question types"
    yield from _figure("accuracy", pictures)
    yield markdown(tables.metric_table(results, metrics_of(results, ATTENTION, without=True)))
    aggregate = tables.iqm_table(results, metrics_of(results, ATTENTION, without=True))
    if aggregate[1]:
        yield prose.INTERQUARTILE_MEAN
        yield markdown(aggregate)
    if metrics_of(results, ("pointing", "mass")):
        yield "## Attention against truth"
        yield from _figure("gallery", pictures)
        yield markdown(tables.metric_table(results, metrics_of(results, ("pointing", "mass"))))
    if metrics_of(results, ("knockout",)):
        yield "## Knock-outs"
        yield from _figure("knockout", pictures)
        yield markdown(tables.metric_table(results, metrics_of(results, ("knockout",))))
    if "learning" in pictures:
        yield "## Training"
        yield from _figure("learning", pictures)


def _figure(name, pictures):
    if name in pictures:
        yield f"![{name}](figures/{name}.png)"
        yield f"*{prose.FIGURES[name]}*"


def _methods(results):
    yield prose.SWEEP if results["learning_rate_sweep"] else prose.NO_SWEEP
    comparisons = results["comparisons"]
    if not comparisons:
        return
    seeds, items = comparisons[0]["seeds"], comparisons[0]["items"]
    if seeds == 1:
        yield prose.ONE_SEED
        return
    over = _count(seeds, "seed") + (f" and {_count(items, 'item')}" if items else "")
    yield prose.METHODS.format(
        over=over, comparisons=_count(len(comparisons), "comparison"), alpha=ALPHA
    )
    yield prose.SIGN_FLIP.format(seeds=seeds, floor=2.0 ** (1 - seeds))


def _environment(results):
    yield "## Environment"
    environment = {k: v for k, v in results["environment"].items() if k != "timings"}
    if environment:
        rows = [[name, _text(value)] for name, value in environment.items()]
        yield "\n".join(f"- {name}: {value}" for name, value in rows)
    cost = tables.cost_table(results)
    if cost[1]:
        yield markdown(cost)


def _text(value):
    if value is None:
        return DASH
    # Nested settings hold characters that Markdown would take for its own.
    return f"`{json.dumps(value)}`" if isinstance(value, dict | list) else str(value)
