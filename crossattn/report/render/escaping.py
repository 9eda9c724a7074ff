r"""Names as plain text: what data and suites call things is printed and never interpreted.

Every writer of the report escapes what its format takes for its own: `markdown_text`, `code` and
`fenced` for Markdown, `csv_cell` for spreadsheets; HTML and LaTeX have escapes of their own, and
matplotlib reads no mathematics (`figures.style`). Control characters are escaped in all of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossattn.viewer.markup import visible

__all__ = ["plain_names", "visible"]


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
