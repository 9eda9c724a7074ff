"""The report: what a suite found, how sure that is, and how to read every number."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from crossattn.data.samples import PartSample
from crossattn.files import write_atomically
from crossattn.report import prose
from crossattn.report import prose_of_comparisons as comparing
from crossattn.report.drawing import figure_blocks
from crossattn.report.environment import environment_paragraph, other_lines
from crossattn.report.figures.gallery import Gallery
from crossattn.report.figures.learning import Curves
from crossattn.report.methods import (
    initial_values,
    methods_section,
    objectives,
    perception,
    same_training,
)
from crossattn.report.render.blocks import (
    Banner,
    Block,
    FigureBlock,
    Heading,
    Table,
    TableBlock,
    TextBlock,
)
from crossattn.report.render.csv_files import runs_csv
from crossattn.report.render.escaping import plain_names
from crossattn.report.render.latex import latex_paragraph
from crossattn.report.render.markdown import code, fenced, markdown_text, without_html
from crossattn.report.results.completeness import banner, conclusive
from crossattn.report.results.counts import count, counts_table
from crossattn.report.results.data_parts import data_paragraph, data_table
from crossattn.report.results.runs import Results
from crossattn.report.results.settings import (
    changes_table,
    listed,
    meanings_table,
    settings_of,
    shared_table,
)
from crossattn.report.sections import evidence_sections, explorer_link, write_blocks
from crossattn.report.stats.claims import VERDICTS
from crossattn.report.stats.comparisons import on_metric
from crossattn.report.stats.paired import ALPHA, FEWEST_SEEDS
from crossattn.report.stats.power import resolution
from crossattn.report.stats.ranges import lower_is_better
from crossattn.report.summary import opening_paragraph
from crossattn.report.tables.cells import baseline_of, on_primary
from crossattn.report.tables.main import (
    alignment_table,
    claim_table,
    comparison_table,
    cost_table,
    main_table,
    verdicts_on,
)
from crossattn.report.tables.speed import speed_table
from crossattn.report.terms import claimed_metrics, column_meanings, terms
from crossattn.report.usage import usage_section


def write_report(
    results: Results,
    out_dir: Path,
    *,
    title: str,
    claims: Sequence[Sequence[str]] = (),
    curves: Curves | None = None,
    shown: Gallery | None = None,
    samples: Sequence[PartSample] = (),
    notes: Sequence[str] = (),
    explorer: str = "",
    command: str,
) -> Path:
    """Write a report into a folder; each file appears whole or not at all.

    Beside report.md and its `figures/`: report.html, the same in one file that needs no other;
    `tables/`: every table as CSV and LaTeX, runs.csv with every number of every run, methods.tex.

    Args:
        results: the content of results.json: suite, primary, runs, comparisons, chance,
            learning_rate_sweep and environment, whose timings hold the cost of each variant; and
            where they are known settings (of each variant), counts, asked, data and baseline (see
            `settings`, `counts`, `banner`, `data_parts`). Names in it are plain text.
        out_dir: an existing folder.
        title: what the suite asks, in a few words.
        claims: the declared pairs (better, worse) or (better, worse, metric), each among the
            comparisons unless a side has no such metric.
        curves: training loss (and accuracy) of each variant and seed, for `learning_curves`.
        shown: pictures with the attention of words.
        samples: a picture of each part of the data, with its texts.
        notes: what the suite has to say about itself in Markdown, one paragraph each.
        explorer: whose words explore.html shows, which lies in the folder; "" where there is none.
        command: the command that makes these results again.

    Returns:
        The path of report.md.

    Raises:
        ValueError: if a claim was not compared.
    """
    results, claims, title = plain_names(results), plain_names(claims), plain_names(title)
    given = (plain_names(curves), plain_names(shown), plain_names(tuple(samples)))
    pictures = figure_blocks(results, *given)
    blocks: list[Block] = [
        Heading(f"{results['suite']}: {title}", 1),
        *map(Banner, banner(results)),
        TextBlock(opening_paragraph(results)),
        *(TextBlock(without_html(note)) for note in notes),
        *explorer_link(plain_names(explorer)),
        Heading("Terms"),
        TextBlock("\n".join(f"- {line}" for line in terms(results))),
        *_data(results, pictures),
        *_variants(results, pictures),
        *_main_tables(results, pictures),
        *_claims(results, claims),
        *_comparisons(results, pictures),
        *evidence_sections(results, pictures),
        *usage_section(out_dir),
        *_training(pictures, speed_table(given[0], baseline_of(results))),
        Heading("What the numbers mean"),
        *map(TextBlock, _meaning(results)),
        Heading("Methods"),
        *(TextBlock(markdown_text(paragraph)) for paragraph in methods_section(results)),
        *_settings(results),
        *_environment(results),
        Heading("How to make this again"),
        *map(TextBlock, (fenced(command), prose.REPEATS, prose.FILES)),
    ]
    (out_dir / "tables").mkdir(exist_ok=True)
    write_atomically(out_dir / "tables" / "runs.csv", runs_csv(results))
    methods = latex_paragraph(methods_section(results))
    write_atomically(out_dir / "tables" / "methods.tex", methods)
    return write_blocks(out_dir, blocks, suite=results["suite"], banners=banner(results))


def _main_tables(results: Results, pictures: Mapping[str, list[FigureBlock]]) -> Iterator[Block]:
    yield Heading("Results")
    yield TextBlock("\n".join(f"- {markdown_text(line)}" for line in column_meanings(results)))
    yield TableBlock("main", prose.MAIN, main_table(results))
    yield from pictures.get("scatter", [])
    yield TableBlock("alignment", prose.ALIGNMENT, alignment_table(results))


def _data(results: Results, pictures: Mapping[str, list[FigureBlock]]) -> Iterator[Block]:
    """What models learn from and are judged by."""
    if table := data_table(results):
        yield Heading("Data")
        yield TextBlock(markdown_text(data_paragraph(results)))
        yield from pictures.get("samples", [])
        yield TableBlock("data", prose.DATA, table)


def _variants(results: Results, pictures: Mapping[str, list[FigureBlock]]) -> Iterator[Block]:
    """What is compared."""
    drawn, table = pictures.get("designs", []), changes_table(results)
    if not drawn and not table:
        return
    yield Heading("Variants")
    settings = settings_of(results)
    said = [objectives(settings), prose.VARIANTS, *initial_values(settings), *perception(settings)]
    yield TextBlock(markdown_text(" ".join(said)))
    yield from drawn
    if table:
        yield TableBlock("changes", prose.CHANGES, table)
    if meanings := meanings_table(results):
        weights = any(field.startswith("loss.") for field, _ in meanings[1])
        caption = f"{prose.MEANINGS} {prose.WEIGHTS}" if weights else prose.MEANINGS
        yield TableBlock("meanings", caption, meanings)


def _settings(results: Results) -> Iterator[Block]:
    """What variants share, and how much was measured."""
    if table := shared_table(results):
        yield TableBlock("settings", prose.SETTINGS, table)
    if table := counts_table(results):
        yield TableBlock("items", prose.COUNTS, table)


def _claims(results: Results, claims: Sequence[Sequence[str]]) -> Iterator[Block]:
    if not claims:
        return
    yield Heading("Claims")
    verdicts = [verdict.verdict for verdict in verdicts_on(claims, results)]
    said = [f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in verdicts]
    yield TextBlock(
        f"The suite declared {count(len(claims), 'claim')} on {_named(results, claims)} before it "
        f"ran: {', '.join(said)}{'' if conclusive(results) else ', which concludes nothing'}."
    )
    if lines := list(claimed_metrics(results, claims)):
        yield TextBlock("\n".join(f"- {line}" for line in lines))
    yield TableBlock("claims", prose.CLAIMS, claim_table(claims, results))
    yield TextBlock(comparing.VERDICTS if conclusive(results) else comparing.NO_CONCLUSION)


def _named(results: Results, claims: Sequence[Sequence[str]]) -> str:
    """The metrics of claims, the primary one first."""
    primary = results["primary"]
    others = dict.fromkeys(on_metric(claim, primary) for claim in claims)
    return listed([*map(code, sorted(others, key=lambda name: name != primary))])


def _comparisons(results: Results, pictures: Mapping[str, list[FigureBlock]]) -> Iterator[Block]:
    if not results["comparisons"]:
        return
    yield Heading("Comparisons")
    yield from pictures.get("differences", [])
    yield TableBlock("comparisons", prose.COMPARISONS, comparison_table(results))
    if found := resolution(results["comparisons"]):
        yield TextBlock(markdown_text(found.sentence()))
    if margins := [found["margin"] for found in results["comparisons"] if "margin" in found]:
        yield TextBlock(comparing.EQUIVALENCE.format(margin=margins[0]))


def _training(pictures: Mapping[str, list[FigureBlock]], speed: Table | None) -> Iterator[Block]:
    if drawn := pictures.get("learning"):
        yield Heading("Training")
        yield from drawn
    if drawn and speed:
        yield TableBlock("speed", prose.SPEED, speed)


def _meaning(results):
    known = settings_of(results)
    training = prose.TRAINING if same_training(known) else prose.OTHER_TRAINING
    yield f"{training} {prose.SWEEP if results['learning_rate_sweep'] else prose.NO_SWEEP}"
    comparisons = results["comparisons"]
    if not comparisons:
        return
    seeds, items = comparisons[0]["seeds"], comparisons[0]["items"]
    if seeds < FEWEST_SEEDS:
        yield prose.ONE_SEED if seeds == 1 else prose.TWO_SEEDS
        return
    single = items and not lower_is_better(results["primary"])
    over = count(seeds, "seed") + (f" and {count(items, 'item')}" if single else "")
    own = len(on_primary(results))
    more = len(comparisons) - own
    yield comparing.METHODS.format(
        over=over,
        comparisons=count(own, "comparison"),
        others=f" and {more} of other metrics that claims name" if more else "",
        alpha=ALPHA,
    )
    yield comparing.SIGN_FLIP.format(seeds=seeds, floor=2.0 ** (1 - seeds))


def _environment(results: Results) -> Iterator[Block]:
    environment, cost = results["environment"], cost_table(results)
    said = environment_paragraph(environment)
    more = other_lines(environment)
    if not said and not more and not cost[1]:
        return
    yield Heading("Environment and cost")
    if said:
        yield TextBlock(markdown_text(said))
    if more:
        yield TextBlock("\n".join(f"- {markdown_text(line)}" for line in more))
    if cost[1]:
        yield TableBlock("cost", prose.COST, cost)
