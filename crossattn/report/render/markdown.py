"""Blocks, tables and texts as Markdown."""

import re
from collections.abc import Sequence

from crossattn.report.render.blocks import (
    Banner,
    Block,
    FigureBlock,
    Heading,
    Table,
    TableBlock,
    TextBlock,
    numbered,
    wordy,
)
from crossattn.report.render.escaping import visible


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report as Markdown; figures are referred to under figures/.

    Example:
        >>> print(to_markdown([Heading("Results"), TextBlock("All is well.")]), end="")
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
        case TextBlock(text):
            return text
        case FigureBlock(name, caption):
            return f"![{number}: {name}](figures/{name}.png)\n\n*{number}. {caption}*"
        case TableBlock(_, caption, table):
            return f"*{number}. {caption}*\n\n{markdown_table(table)}"


def markdown_table(table: Table) -> str:
    """A table in Markdown, the first column and long texts to the left, others to the right.

    Example:
        >>> print(markdown_table((["variant", "accuracy"], [["blind", "0.17"]])))
        | variant | accuracy |
        | :--- | ---: |
        | blind | 0.17 |
    """
    header, rows = table
    rule = [":---" if long else "---:" for long in wordy(table)]
    header, *rows = ([markdown_text(cell) for cell in row] for row in (header, *rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def markdown_text(text: str) -> str:
    r"""Plain text that Markdown prints as it stands, in a sentence, a heading or a cell.

    An underscore within a word and a bracket that opens no link need no escape and get none.

    Example:
        >>> print(markdown_text("<b>|*a* slot_accuracy [0.1, 0.2]"))
        \<b>\|\*a\* slot_accuracy [0.1, 0.2]
    """
    text = re.sub(r"([\\`*|$])", r"\\\1", visible(text))
    text = re.sub(r"<(?=[A-Za-z/!?])|&(?=[#\w])|](?=[\[(:])|~(?=~)|(?<=~)~|^[#>]", r"\\\g<0>", text)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def code(text: str) -> str:
    """Plain text as inline code of Markdown, whatever backticks it holds.

    Example:
        >>> code("iid/accuracy"), code("a`b")
        ('`iid/accuracy`', '`` a`b ``')
    """
    text = visible(text)
    ticks = "`" * (_longest_run(text) + 1)
    space = " " if len(ticks) > 1 else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def fenced(text: str) -> str:
    """Plain text as a block of code of Markdown; its lines stay.

    Example:
        >>> print(fenced("make"))
        ```
        make
        ```
    """
    fence = "`" * max(3, _longest_run(text) + 1)
    return "\n".join([fence, visible(text, keep="\n"), fence])


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def without_html(markdown: str) -> str:
    """Markdown whose raw HTML is text; code and links stay as they are.

    Example:
        >>> without_html("*so* `a<b>` <script>")
        '*so* `a<b>` &lt;script>'
    """
    parts = re.split(r"(`+)(.+?)(?<!`)\1(?!`)", markdown, flags=re.DOTALL)
    said = []
    for plain, ticks, inside in zip(
        parts[::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True
    ):
        said.append(
            re.sub(r"<(?!https?://)(?=[A-Za-z/!?])", "&lt;", plain) + ticks + inside + ticks
        )
    return visible("".join(said), keep="\n")
