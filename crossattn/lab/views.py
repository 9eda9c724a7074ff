"""Tables and reports that show themselves: as text in a terminal, as HTML in a notebook."""

import dataclasses
import html
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from crossattn.files import contents
from crossattn.lab.errors import LabError
from crossattn.report.render.blocks import Table, TableBlock, wordy
from crossattn.report.render.escaping import plain_names, visible
from crossattn.report.render.terminal import terminal_table
from crossattn.spelling import nearest

# Pixels of a report in a notebook; it scrolls.
PAGE_HEIGHT = 640
NARROW = "border: 1px solid; border-radius: 6px; padding: 0.4rem 0.8rem; max-width: 46rem"


@dataclasses.dataclass(frozen=True, repr=False)
class TableView:
    """A table of strings.

    Attributes:
      header: names of the columns.
      rows: of cells.
      caption: what the numbers are.
      banners: what a reader has to know before the numbers.

    Example:
      >>> TableView(["variant", "accuracy"], [["plain", "0.31"]], banners=("QUICK RUN.",))
      QUICK RUN.
      <BLANKLINE>
      variant  accuracy
      plain        0.31
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    banners: Sequence[str] = ()

    def __repr__(self) -> str:
        table = terminal_table(([*self.header], [[*row] for row in self.rows]))
        return "\n\n".join([*(textwrap.fill(text, 110) for text in self.banners), table])

    def _repr_html_(self) -> str:
        long = wordy(([*self.header], [[*row] for row in self.rows]))
        head = "".join(map(_cell, ["th"] * len(long), self.header, long))
        body = "".join(
            f"<tr>{''.join(map(_cell, ['td'] * len(long), row, long))}</tr>" for row in self.rows
        )
        caption = f"<figcaption>{_plain(self.caption)}</figcaption>" if self.caption else ""
        return (
            f"{banners_html(self.banners)}<figure style='margin: 0 0 1rem; overflow-x: auto'>"
            f"{caption}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></figure>"
        )


def table_view(table: Table, caption: str = "", banners: Sequence[str] = ()) -> TableView:
    """A table of a report as a view; names in it are plain text."""
    header, rows = plain_names(table)
    return TableView(header, rows, caption, tuple(banners))


def table_named(blocks: Iterable[TableBlock], name: str, banners: Sequence[str] = ()) -> TableView:
    """The table of a report that has a name.

    Raises:
      LabError: there is none; says which there are.
    """
    every = {block.name: block for block in blocks}
    if name not in every:
        raise LabError(f"there is no table {name!r}: {nearest(name, every)}")
    return table_view(every[name].table, every[name].caption, banners)


def banners_html(banners: Sequence[str]) -> str:
    """What a reader has to know before the numbers, as HTML."""
    return "".join(f"<p style='{NARROW}'><strong>{_plain(text)}</strong></p>" for text in banners)


def _cell(kind: str, text: str, long: bool) -> str:
    side = "left" if long else "right"
    style = f"text-align: {side}; padding: 0.2rem 0.7rem"
    return f"<{kind} style='{style}'>{_plain(text)}</{kind}>"


def _plain(text: str) -> str:
    return html.escape(visible(text))


@dataclasses.dataclass(frozen=True, repr=False)
class ReportPage:
    """The report of a folder: a path, and in a notebook the page itself.

    Attributes:
      path: of report.html, one file that needs no other.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        page = html.escape(contents(self.path).decode(), quote=True)
        style = f"width: 100%; height: {PAGE_HEIGHT}px; border: 1px solid #8888"
        return f'<iframe srcdoc="{page}" style="{style}" title="report"></iframe>'
