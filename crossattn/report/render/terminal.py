"""Tables as plain text for the terminal."""

from crossattn.report.render.blocks import Table
from crossattn.report.render.escaping import visible


def terminal_table(table: Table) -> str:
    """A table of aligned columns for the terminal.

    Example:
        >>> print(terminal_table((["variant", "accuracy"], [["a", "0.17"], ["mean-pool", "0.3"]])))
        variant    accuracy
        a              0.17
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
