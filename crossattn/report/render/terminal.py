"""Tables as plain text for the terminal."""

import itertools
from textwrap import TextWrapper

from crossattn.report.render.blocks import LONG, Table, wordy
from crossattn.report.render.escaping import visible


def terminal_table(table: Table) -> str:
    """A table of aligned columns for the terminal; a long text stands on several lines.

    Example:
        >>> print(terminal_table((["variant", "accuracy"], [["a", "0.17"], ["mean-pool", "0.3"]])))
        variant    accuracy
        a              0.17
        mean-pool       0.3
    """
    left = wordy(table)
    whole = TextWrapper(LONG, break_long_words=False, break_on_hyphens=False)
    every = [[visible(cell) for cell in row] for row in (table[0], *table[1])]
    broken = [
        [
            [name],
            *(
                whole.wrap(cell) if text else [cell]
                for cell, text in zip(rest, left[1:], strict=True)
            ),
        ]
        for (name, *rest) in every
    ]
    lines = [line for row in broken for line in itertools.zip_longest(*row, fillvalue="")]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    )
