"""What reports of a suite and of a single run share: sections of evidence, and their files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from crossattn.align.measures import MEASURES, Family
from crossattn.files import write_atomically
from crossattn.report import prose
from crossattn.report.figures.attention import head_heat_maps
from crossattn.report.figures.style import png
from crossattn.report.render.blocks import Block, FigureBlock, Heading, TableBlock, TextBlock
from crossattn.report.render.csv_files import table_csv
from crossattn.report.render.html_page import to_html
from crossattn.report.render.latex import latex_table
from crossattn.report.render.markdown import markdown_text, to_markdown
from crossattn.report.results.runs import Results, Runs, references_of
from crossattn.report.tables.measures import iqm_table, measure_blocks

# Kinds of evidence: the section of each, and its figures.
SECTIONS: tuple[tuple[Family, str, tuple[str, ...]], ...] = (
    ("task", "Splits and question types", ("accuracy", "profiles")),
    ("attention", "Attention against truth", ("gallery", "heads")),
    ("causal", "Knock-outs and other images", ("knockout",)),
    ("representation", "Representation", ()),
)


def evidence_sections(
    results: Results, figures: Mapping[str, Sequence[FigureBlock]]
) -> Iterator[Block]:
    """A section for each kind of evidence: its figures, then the tables of its measures."""
    for family, title, names in SECTIONS:
        drawn = [block for name in names for block in figures.get(name, [])]
        tables = list(measure_blocks(results, family))
        if drawn or tables:
            yield Heading(title if tables else title.split(" against")[0])
        if family == "attention" and tables:
            yield TextBlock(prose.REFERENCES if references_of(results) else prose.NO_REFERENCES)
        yield from drawn
        yield from tables
        if family == "task" and (aggregate := iqm_table(results)):
            yield TableBlock("interquartile-means", prose.INTERQUARTILE_MEAN, aggregate)
        fixed = [run["metrics"].get("pointing/fixed_patch") for run in results["runs"]]
        levels = [level for level in fixed if level is not None]
        if family == "attention" and levels:
            yield TextBlock(prose.FIXED_PATCH.format(level=levels[0]))


def explorer_link(of: str) -> Iterator[Block]:
    """The link to explore.html, which shows words of such a model; none where it is ""."""
    if of:
        yield TextBlock(prose.EXPLORER.format(of=markdown_text(of)))


def head_figures(runs: Runs, chance: Mapping[str, float]) -> list[FigureBlock]:
    """Heat maps by layer and head of every measure that single heads have."""
    return [
        FigureBlock(
            "heads" if name == "pointing" else f"heads-{name}",
            f"{MEASURES[name].meaning} {prose.FIGURES['heads']}",
            png(figure),
        )
        for name, figure in head_heat_maps(runs, chance=chance).items()
    ]


def write_blocks(folder: Path, blocks: Sequence[Block], *, suite: str, banners: list[str]) -> Path:
    """Write report.md, report.html, and the figures and tables in them, each file atomically.

    Captions of LaTeX tables begin with the banners. Returns the path of report.md.
    """
    for name in ("figures", "tables"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for block in blocks:
        if isinstance(block, FigureBlock):
            write_atomically(folder / "figures" / f"{block.name}.png", block.png)
        elif isinstance(block, TableBlock):
            caption = " ".join([*banners, block.caption])
            latex = latex_table(block.table, caption=caption, label=f"{suite}-{block.name}")
            write_atomically(folder / "tables" / f"{block.name}.tex", latex)
            write_atomically(folder / "tables" / f"{block.name}.csv", table_csv(block.table))
    # They refer to those files, which therefore come first.
    write_atomically(folder / "report.html", to_html(blocks))
    write_atomically(folder / "report.md", to_markdown(blocks))
    return folder / "report.md"
