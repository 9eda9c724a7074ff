"""The report: what a suite found, how sure that is, and how to read every number."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossattn.files import write_atomically
from crossattn.report import details, figures, pointing, prose, tables
from crossattn.report.blocks import Block, Heading, Listing, Picture, Text, to_markdown
from crossattn.report.comparisons import judge, winner_of
from crossattn.report.export import latex_paragraph, latex_table, runs_csv, table_csv
from crossattn.report.gallery import Gallery, gallery
from crossattn.report.methods import count, methods
from crossattn.report.page import page
from crossattn.report.runs import mean_with_interval, metric_values, variants_of
from crossattn.report.statistics import ALPHA
from crossattn.report.tables import DASH, baseline_of, metrics_of, signed_interval

__all__ = ["write_report"]

Results = Mapping[str, Any]

# A figure of splits beyond this many panels would be a poster.
MOST_SPLITS = 18


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
    """Write a report into a folder; each file appears whole or not at all.

    Beside report.md and its `figures/`: report.html, the same in one file that needs no other;
    `tables/`: every table as CSV and LaTeX, runs.csv with every number of every run, methods.tex.

    Args:
        results: the content of results.json: suite, primary, runs, comparisons, chance,
            learning_rate_sweep and environment, whose timings hold the cost of each variant.
        out_dir: an existing folder.
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
    blocks: list[Block] = [
        Heading(f"{results['suite']}: {title}", 1),
        Text(_summary(results)),
        *map(Text, notes),
        Heading("Results"),
        Listing("main", prose.MAIN, tables.main_table(results)),
        *pictures["scatter"],
        Listing("alignment", prose.ALIGNMENT, tables.alignment_table(results)),
        Text(prose.TABLES),
        *_claims(results, claims),
        *_comparisons(results, pictures),
        *_splits(results, pictures),
        *_attention(results, pictures),
        *_training(pictures),
        Heading("What the numbers mean"),
        *map(Text, _meaning(results)),
        Heading("Methods"),
        *map(Text, methods(results)),
        *_environment(results),
        Heading("How to make this again"),
        Text(f"```\n{command}\n```"),
        Text(prose.FILES),
    ]
    path = out_dir / "report.md"
    _write(out_dir, results, blocks)
    write_atomically(out_dir / "report.html", page(blocks))
    write_atomically(path, to_markdown(blocks))
    return path


def _write(out_dir: Path, results: Results, blocks: Sequence[Block]) -> None:
    """Figures and tables, which the report refers to and therefore come first."""
    for folder in ("figures", "tables"):
        (out_dir / folder).mkdir(exist_ok=True)
    where = out_dir / "tables"
    for block in blocks:
        if isinstance(block, Picture):
            write_atomically(out_dir / "figures" / f"{block.name}.png", block.png)
        elif isinstance(block, Listing):
            label = f"{results['suite']}-{block.name}".replace("_", "-")
            latex = latex_table(block.table, caption=block.caption, label=label)
            write_atomically(where / f"{block.name}.tex", latex)
            write_atomically(where / f"{block.name}.csv", table_csv(block.table))
    write_atomically(where / "runs.csv", runs_csv(results))
    write_atomically(where / "methods.tex", latex_paragraph(methods(results)))


def _draw(results, curves, shown) -> dict[str, list[Picture]]:
    """The figures by name: a list of one, or an empty one where there is nothing to draw."""
    runs, chance = results["runs"], results["chance"]
    splits = metrics_of(results, details.ATTENTION, without=True)[:MOST_SPLITS]
    drawn = {
        "scatter": pointing.scatter(runs, primary=results["primary"], chance=chance),
        "differences": results["comparisons"] and figures.forest(results["comparisons"]),
        "accuracy": splits and figures.accuracy_by_split(runs, splits, chance=chance),
        "heads": pointing.head_grid(runs, chance=chance),
        "gallery": shown and gallery(shown),
        "knockout": metrics_of(results, ["knockout"]) and figures.knockout(runs, chance=chance),
        "learning": curves and figures.learning_curves(curves),
    }
    return {
        name: [Picture(name, prose.FIGURES[name], figures.png(figure))] if figure else []
        for name, figure in drawn.items()
    }


def _summary(results):
    """What was established, a line for each comparison; it names no winner beyond that."""
    runs, primary, baseline = results["runs"], results["primary"], baseline_of(results)
    variants = variants_of(runs)
    seeds = len({run["seed"] for run in runs})
    text = [f"{len(variants)} variants, {count(seeds, 'seed')} each; primary metric `{primary}`."]
    if baseline is None:
        return " ".join([*text, "There is one variant, so there is nothing to compare."])
    mean, low, high = mean_with_interval(metric_values(runs, baseline, primary))
    spread = f" [{low:.3f}, {high:.3f}]" if seeds > 1 else ""
    text.append(f"The baseline **{baseline}** reaches {mean:.3f}{spread}.")
    if seeds == 1:
        return " ".join([*text, "One seed allows no claim: no winner is named."])
    decided = [_sentence(found) for found in results["comparisons"] if winner_of(found)]
    undecided = [
        f"No winner is named between {found['variant']} and {found['baseline']}: "
        f"{signed_interval(found)}."
        for found in results["comparisons"]
        if not winner_of(found)
    ]
    return "\n".join([" ".join(text), "", *(f"- {line}" for line in (*decided, *undecided))])


def _sentence(found):
    better = winner_of(found)
    worse = found["baseline"] if better == found["variant"] else found["variant"]
    size = abs(found["difference"])
    low, high = sorted(abs(found[name]) for name in ("low", "high"))
    return f"**{better}** is better than **{worse}** by {size:.3f} [{low:.3f}, {high:.3f}]."


def _claims(results: Results, claims: Sequence[Sequence[str]]) -> Iterator[Block]:
    if not claims:
        return
    yield Heading("Claims")
    verdicts = [verdict.verdict for verdict in judge(claims, results["comparisons"])]
    said = [
        f"{verdicts.count(verdict)} {verdict}"
        for verdict in ("supported", "not supported", "inconclusive")
        if verdict in verdicts
    ]
    yield Text(
        f"The suite declared {count(len(claims), 'claim')} on `{results['primary']}` before it "
        f"ran: {', '.join(said)}."
    )
    yield Listing("claims", prose.CLAIMS, tables.claim_table(claims, results["comparisons"]))
    yield Text(prose.VERDICTS)


def _comparisons(results: Results, pictures: Mapping[str, list[Picture]]) -> Iterator[Block]:
    if not results["comparisons"]:
        return
    yield Heading("Comparisons")
    yield from pictures["differences"]
    yield Listing("comparisons", prose.COMPARISONS, tables.comparison_table(results))


def _splits(results: Results, pictures: Mapping[str, list[Picture]]) -> Iterator[Block]:
    yield Heading("Splits and question types")
    yield from pictures["accuracy"]
    for split, table in details.split_tables(results).items():
        caption = prose.SPLITS.get(split, prose.SPLIT.format(split=split))
        yield Listing(f"split-{split}", f"{caption} {prose.CELLS}", table)
    aggregate = details.iqm_table(results)
    if aggregate:
        yield Listing("interquartile-means", prose.INTERQUARTILE_MEAN, aggregate)


def _attention(results: Results, pictures: Mapping[str, list[Picture]]) -> Iterator[Block]:
    located = metrics_of(results, ("pointing", "mass"))
    if located or pictures["gallery"]:
        yield Heading("Attention against truth" if located else "Attention")
        yield from pictures["gallery"]
    if located:
        yield from pictures["heads"]
        for reading, words in prose.READINGS.items():
            table = details.attention_table(results, reading)
            if table:
                yield Listing(f"attention-{reading}", f"{words} {prose.CELLS}", table)
        fixed = [run["metrics"].get("pointing/fixed_patch") for run in results["runs"]]
        if levels := [level for level in fixed if level is not None]:
            yield Text(prose.FIXED_PATCH.format(level=levels[0]))
    if metrics_of(results, ("knockout",)):
        yield Heading("Knock-outs")
        yield from pictures["knockout"]
        table = details.knockout_table(results)
        yield Listing("knockout", f"{prose.KNOCKOUT} {prose.CELLS}", table)


def _training(pictures: Mapping[str, list[Picture]]) -> Iterator[Block]:
    if pictures["learning"]:
        yield Heading("Training")
        yield from pictures["learning"]


def _meaning(results):
    yield prose.SWEEP if results["learning_rate_sweep"] else prose.NO_SWEEP
    comparisons = results["comparisons"]
    if not comparisons:
        return
    seeds, items = comparisons[0]["seeds"], comparisons[0]["items"]
    if seeds == 1:
        yield prose.ONE_SEED
        return
    over = count(seeds, "seed") + (f" and {count(items, 'item')}" if items else "")
    yield prose.METHODS.format(
        over=over, comparisons=count(len(comparisons), "comparison"), alpha=ALPHA
    )
    yield prose.SIGN_FLIP.format(seeds=seeds, floor=2.0 ** (1 - seeds))


def _environment(results: Results) -> Iterator[Block]:
    environment = {k: v for k, v in results["environment"].items() if k != "timings"}
    cost = tables.cost_table(results)
    if not environment and not cost[1]:
        return
    yield Heading("Environment")
    if environment:
        lines = [f"- {name}: {_text(value)}" for name, value in environment.items()]
        yield Text("\n".join(lines))
    if cost[1]:
        yield Listing("cost", prose.COST, cost)


def _text(value):
    if value is None:
        return DASH
    # Nested settings hold characters that Markdown would take for its own.
    return f"`{json.dumps(value)}`" if isinstance(value, dict | list) else str(value)
