"""Tables and runs as CSV, for programs and spreadsheets."""

import csv
import io
import re
from collections.abc import Mapping
from typing import Any

from crossattn.report.render.blocks import DASH, Table
from crossattn.report.render.escaping import visible
from crossattn.report.results.runs import chance_of

# What a spreadsheet takes for the beginning of a formula, and the wide forms of the same.
FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20")
AMOUNT = r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?"
# A number, perhaps with its interval: what the report itself writes into cells.
NUMBERS = re.compile(
    rf"{AMOUNT}(?: ?(?:%|m?s))?(?: ± {AMOUNT})?(?: \[{AMOUNT}, {AMOUNT}\])?(?: \({AMOUNT}\))?"
)


def table_csv(table: Table) -> str:
    """A table as CSV, as it is printed; a dash becomes an empty field.

    What a spreadsheet would take for a formula has an apostrophe before it; numbers have none.

    Example:
        >>> print(table_csv((["variant", "accuracy"], [["blind, deaf", "-"]])), end="")
        variant,accuracy
        "blind, deaf",
    """
    header, rows = table
    return _csv([header, *([("" if cell == DASH else cell) for cell in row] for row in rows)])


def runs_csv(results: Mapping[str, Any]) -> str:
    """Every metric of every run in long form, numbers in full; an unknown chance is empty.

    Example:
        >>> runs = [{"variant": "blind", "seed": 0, "metrics": {"iid/accuracy": 0.25}}]
        >>> print(runs_csv({"runs": runs, "chance": {}}), end="")
        variant,seed,metric,value,chance
        blind,0,iid/accuracy,0.25,
    """
    lines: list[list[Any]] = [["variant", "seed", "metric", "value", "chance"]]
    for run in results["runs"]:
        for metric, value in run["metrics"].items():
            chance = chance_of(results["chance"], metric)
            lines.append([run["variant"], run["seed"], metric, value, chance])
    return _csv(lines)


def _csv(lines) -> str:
    buffer = io.StringIO()
    safe = [[csv_cell(cell) if isinstance(cell, str) else cell for cell in line] for line in lines]
    csv.writer(buffer, lineterminator="\n").writerows(safe)
    return buffer.getvalue()


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula: such a text gets an apostrophe before it.

    Numbers, with their intervals, stay numbers.

    Example:
        >>> csv_cell("=1+2"), csv_cell("-0.1"), csv_cell("+0.1 [-0.2, +0.4]"), csv_cell("-1+2")
        ("'=1+2", '-0.1', '+0.1 [-0.2, +0.4]', "'-1+2")
    """
    acts = text.lstrip().startswith(FORMULA) or text.startswith(("\t", "\r", "\n"))
    text = visible(text, keep="\n")
    return f"'{text}" if acts and not NUMBERS.fullmatch(text) else text
