"""What a report is made of, and how that reads as Markdown.

A report is a list of blocks. Each is written three times: here as Markdown, in `page` as HTML, in
`export` as the files of its tables.
"""

import dataclasses
from collections.abc import Iterator, Sequence

Table = tuple[list[str], list[list[str]]]
DASH = "-"
# A cell with more letters than this is a text.
LONG = 48


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
class TextBlock:
    """Paragraphs, lists or code in Markdown."""

    markdown: str


@dataclasses.dataclass(frozen=True)
class FigureBlock:
    """A figure: its caption, and its PNG under figures/NAME.png."""

    name: str
    caption: str
    png: bytes


@dataclasses.dataclass(frozen=True)
class TableBlock:
    """A table: its caption, and cells of plain text; it is also tables/NAME.csv and .tex."""

    name: str
    caption: str
    table: Table


Block = Heading | Banner | TextBlock | FigureBlock | TableBlock


def numbered(blocks: Sequence[Block]) -> Iterator[tuple[Block, str]]:
    """Blocks with their numbers, as in "Figure 1" and "Table 2"; headings and texts have none.

    Example:
        >>> table = TableBlock("main", "All.", (["a"], []))
        >>> [number for _, number in numbered([table, TextBlock("so"), table])]
        ['Table 1', '', 'Table 2']
    """
    counts = {"Figure": 0, "Table": 0}
    kinds: dict[type, str] = {FigureBlock: "Figure", TableBlock: "Table"}
    for block in blocks:
        kind = kinds.get(type(block))
        if kind is None:
            yield block, ""
        else:
            counts[kind] += 1
            yield block, f"{kind} {counts[kind]}"


def wordy(table: Table) -> list[bool]:
    """Which columns are texts to be read from the left: the first, and any with a long cell.

    Example:
        >>> wordy((["variant", "accuracy", "note"], [["blind", "0.17", "x" * 50]]))
        [True, False, True]
    """
    columns = zip(*table[1], strict=True)
    found = [max(map(len, column)) > LONG for column in columns] or [False] * len(table[0])
    return [True, *found[1:]]
