"""Any table as Markdown and as plain text for the terminal.

A table is a pair (header, rows) of strings in plain text; a dash stands where there is no number.
"""

from crossattn.report.escaping import markdown_text, visible

__all__ = ["DASH", "Table", "markdown", "plain", "wordy"]

Table = tuple[list[str], list[list[str]]]

DASH = "-"
# A cell with more letters than this is a text.
LONG = 48


def markdown(table: Table) -> str:
    """A table in Markdown, the first column and long texts to the left, others to the right.

    Example:
        >>> print(markdown((["variant", "accuracy"], [["blind", "0.17"]])))
        | variant | accuracy |
        | :--- | ---: |
        | blind | 0.17 |
    """
    header, rows = table
    rule = [":---" if long else "---:" for long in wordy(table)]
    header, *rows = ([markdown_text(cell) for cell in row] for row in (header, *rows))
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def wordy(table: Table) -> list[bool]:
    """Which columns are texts to be read from the left: the first, and any with a long cell.

    Example:
        >>> wordy((["variant", "accuracy", "note"], [["blind", "0.17", "x" * 50]]))
        [True, False, True]
    """
    columns = zip(*table[1], strict=True)
    found = [max(map(len, column)) > LONG for column in columns] or [False] * len(table[0])
    return [True, *found[1:]]


def plain(table: Table) -> str:
    """A table of aligned columns for the terminal.

    Example:
        >>> print(plain((["variant", "accuracy"], [["blind", "0.17"], ["mean-pool", "0.3"]])))
        variant    accuracy
        blind          0.17
        mean-pool       0.3
    """
    header, rows = table
    header, *rows = ([visible(cell) for cell in row] for row in (header, *rows))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        [cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs)]
        for pairs in (zip(row, widths, strict=True) for row in (header, *rows))
    ]
    return "\n".join("  ".join(line).rstrip() for line in lines)
