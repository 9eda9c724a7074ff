r"""Names as plain text: what data and suites call things is printed and never interpreted.

Every writer of the report escapes what its format takes for its own: `markdown_text`, `code` and
`fenced` for Markdown, `csv_cell` for spreadsheets; HTML and LaTeX have escapes of their own, and
matplotlib reads no mathematics (`figures.style`). Control characters are escaped in all of them.
"""

import dataclasses
import unicodedata
from collections.abc import Mapping
from typing import Any

import numpy as np

# Control characters, invisible marks that reorder text, line separators and lone surrogates.
HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
# Joiners and breaks within words of many scripts, and signs of Arabic and Syriac that are seen.
JOINERS = "\xad\u200b\u200c\u200d\u2060\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2"
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


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
