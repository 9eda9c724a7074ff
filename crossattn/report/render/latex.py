r"""The tables and methods of a report as files: CSV for programs, LaTeX for papers.

The LaTeX needs the package booktabs and nothing else. It compiles whatever the cells hold: every
character that TeX takes for its own is escaped, and so is a bracket that would follow a line break.
"""

import re
import textwrap

from crossattn.report.render.blocks import Table, wordy

MINUS = "\N{MINUS SIGN}"
# Characters with a meaning of their own, and those that the default encoding prints as others.
ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    # After ? and ! it would join to another mark.
    "`": "{`}",
    # The default encoding lacks the straight quotation mark.
    '"': "''",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    MINUS: "$-$",
    "→": r"$\to$",
}
# More columns than this are set in small print.
MANY_COLUMNS = 6
LINE = 100


def latex_text(text: str) -> str:
    r"""Plain text that LaTeX prints as it stands.

    A minus before a number becomes a minus sign; letters that LaTeX cannot print without a package
    become a question mark.

    Example:
        >>> print(latex_text("a_b > 5 %: -0.1 ± 0.2"))
        a\_b $>$ 5 \%: $-$0.1 $\pm$ 0.2
    """
    text = re.sub(r"(?<![\w.)-])-(?=\d)", MINUS, text)
    # Two hyphens would join to a dash.
    text = re.sub(r"-(?=-)", "-\0", text)
    text = re.sub(r"[^A-Za-z0-9 ]", lambda found: _character(found[0]), text)
    return text.replace("\0", "{}")


def _first_cell(cell: str) -> str:
    r"""After a line break, TeX takes a bracket or a star for an argument of the break."""
    return "{}" + cell if cell.startswith(("[", "*")) else cell


def _character(letter: str) -> str:
    if letter in ESCAPES:
        return ESCAPES[letter]
    # Accented letters of western Europe are in every LaTeX.
    printable = letter == "\0" or " " <= letter <= "~" or "À" <= letter <= "ÿ"
    return letter if printable else " " if letter.isspace() else "?"


def latex_table(table: Table, *, caption: str, label: str) -> str:
    r"""A floating table with the rules of booktabs, its columns aligned in the source.

    Args:
        table: header and rows of plain text.
        caption: plain text; the inline code of Markdown loses its backticks.
        label: what \ref names, "tab:" apart; what is no letter or digit becomes a hyphen.

    Example:
        >>> table = (["variant", "accuracy"], [["blind", "0.17"]])
        >>> print(latex_table(table, caption="100 %.", label="main").split("booktabs\n")[1], end="")
        \begin{table}
        \centering
        \caption{100 \%.}
        \label{tab:main}
        \begin{tabular}{@{}lr@{}}
        \toprule
        variant & accuracy \\
        \midrule
        blind   &     0.17 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    header, rows = table
    label = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")
    cells = [[latex_text(cell) for cell in row] for row in (header, *rows)]
    cells = [[_first_cell(first), *rest] for first, *rest in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        " & ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + r" \\"
        for row in cells
    ]
    sides = [r"p{0.7\linewidth}" if long else "r" for long in wordy(table)[1:]]
    tight = [r"\footnotesize", r"\setlength{\tabcolsep}{3pt}"]
    small = tight if len(header) > MANY_COLUMNS else []
    return "\n".join(
        [
            "% Package: booktabs",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(caption.replace('`', ''))}}}",
            rf"\label{{tab:{label}}}",
            *small,
            rf"\begin{{tabular}}{{@{{}}l{''.join(sides)}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def latex_paragraph(paragraphs: list[str]) -> str:
    """Plain paragraphs as LaTeX, wrapped; they can be pasted or read with an input command."""
    escaped = [latex_text(paragraph) for paragraph in paragraphs]
    # A line that breaks within a word would print a space there.
    lines = [
        textwrap.fill(text, LINE, break_long_words=False, break_on_hyphens=False)
        for text in escaped
    ]
    return "\n\n".join(lines) + "\n"
