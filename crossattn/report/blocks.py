"""What a report is made of, and how that reads as Markdown.

A report is a list of blocks. Each is written three times: here as Markdown, in `page` as HTML, in
`export` as the files of its tables.
"""

import dataclasses
from collections.abc import Iterator, Sequence

from crossattn.report.escaping import markdown_text
from crossattn.report.grids import Table, markdown

__all__ = ["Banner", "Block", "Heading", "Listing", "Picture", "Text", "numbered", "to_markdown"]


@dataclasses.dataclass(frozen=True)
class Heading:
    """The head of a section in plain text; level 1 is the report's title."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Banner:
    """What a reader has to know before anything else, in plain text."""

    text: str


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs, lists or code in Markdown."""

    markdown: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure: its caption, and its PNG under figures/NAME.png."""

    name: str
    caption: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class Listing:
    """A table: its caption, and cells of plain text; it is also tables/NAME.csv and .tex."""

    name: str
    caption: str
    table: Table


Block = Heading | Banner | Text | Picture | Listing


def numbered(blocks: Sequence[Block]) -> Iterator[tuple[Block, str]]:
    """Blocks with their numbers, as in "Figure 1" and "Table 2"; headings and texts have none.

    Example:
        >>> table = Listing("main", "All.", (["a"], []))
        >>> [number for _, number in numbered([table, Text("so"), table])]
        ['Table 1', '', 'Table 2']
    """
    counts = {"Figure": 0, "Table": 0}
    kinds: dict[type, str] = {Picture: "Figure", Listing: "Table"}
    for block in blocks:
        kind = kinds.get(type(block))
        if kind is None:
            yield block, ""
        else:
            counts[kind] += 1
            yield block, f"{kind} {counts[kind]}"


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; figures are referred to under figures/.

    Example:
        >>> print(to_markdown([Heading("Results"), Text("All is well.")]), end="")
        ## Results
        <BLANKLINE>
        All is well.
    """
    return "\n\n".join(_markdown(block, number) for block, number in numbered(blocks)) + "\n"


def _markdown(block: Block, number: str) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {markdown_text(text)}"
        case Banner(text):
            return f"> **{markdown_text(text)}**"
        case Text(text):
            return text
        case Picture(name, caption):
            return f"![{number}: {name}](figures/{name}.png)\n\n*{number}. {caption}*"
        case Listing(_, caption, table):
            return f"*{number}. {caption}*\n\n{markdown(table)}"
