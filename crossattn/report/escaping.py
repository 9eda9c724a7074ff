r"""Names as plain text: what data and suites call things is printed and never interpreted.

Every writer of the report escapes what its format takes for its own: `markdown_text`, `code` and
`fenced` for Markdown, `csv_cell` for spreadsheets; HTML and LaTeX have escapes of their own, and
matplotlib is told to read no mathematics (`sheet`). Control characters are escaped in all of them.
"""

import dataclasses
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["code", "csv_cell", "fenced", "markdown_text", "plain_names", "visible", "without_html"]

# Control characters, invisible marks that reorder text, line separators and lone surrogates.
HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
# Joiners and breaks within words of many scripts, and signs of Arabic and Syriac that are seen.
JOINERS = "\xad\u200b\u200c\u200d\u2060\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2"
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# What a spreadsheet takes for the beginning of a formula, and the wide forms of the same.
FORMULA = (*"=+-@", *"\uff1d\uff0b\uff0d\uff20")
AMOUNT = r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[+-]?\d+)?"
# A number, perhaps with its interval: what the report itself writes into cells.
NUMBERS = re.compile(
    rf"{AMOUNT}(?: ?(?:%|m?s))?(?: ± {AMOUNT})?(?: \[{AMOUNT}, {AMOUNT}\])?(?: \({AMOUNT}\))?"
)


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with an escape for every character that would act instead of being seen.

    Twice is as good as once. Characters in `keep` stay.

    Example:
        >>> print(visible("red\x1b[31m\nblue"), visible("a\nb", keep="\n"), sep=" | ")
        red\x1b[31m\nblue | a
        b
    """
    return "".join(letter if letter in keep else _seen(letter) for letter in text)


def _seen(letter: str) -> str:
    if unicodedata.category(letter) not in HIDDEN or letter in JOINERS:
        return letter
    number = ord(letter)
    return SHORT.get(letter) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def plain_names(thing: Any) -> Any:
    r"""The same structure with `visible` texts: keys and values of mappings, items of lists.

    Example:
        >>> plain_names({"a\tb": ["c\x00", 1]})
        {'a\\tb': ['c\\x00', 1]}
    """
    if isinstance(thing, str):
        return visible(thing)
    if isinstance(thing, Mapping):
        return {plain_names(name): plain_names(value) for name, value in thing.items()}
    if isinstance(thing, list | tuple):
        return type(thing)(plain_names(item) for item in thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        fields = {field.name: getattr(thing, field.name) for field in dataclasses.fields(thing)}
        return dataclasses.replace(
            thing,
            **{
                name: value if isinstance(value, np.ndarray) else plain_names(value)
                for name, value in fields.items()
            },
        )
    return thing


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
