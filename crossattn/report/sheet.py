"""The paper on which figures are drawn: as wide as the page, its texts printed as they stand.

matplotlib reads `$...$` in a text as mathematics, and a text like "is it $$ or so?" is then an
error. Words and names of data are no mathematics, so every figure of a report is a `Sheet` made by
a function under `as_it_stands`.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.figure import Figure

__all__ = ["WIDTH", "Sheet", "as_it_stands", "label"]

WIDTH = 6.2
AS_IT_STANDS: Any = {"text.parse_math": False, "text.usetex": False}
# Letters of a name that a figure has room for; tables hold it whole.
LETTERS = 28

P = ParamSpec("P")
R = TypeVar("R")


class Sheet(Figure):
    """A figure that is drawn without mathematics, also the ticks that are made while drawing."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), layout="constrained")

    def draw(self, renderer: Any) -> None:
        """Paint the figure; a letter that the font lacks is painted as a box, without a warning."""
        with matplotlib.rc_context(AS_IT_STANDS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
            warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
            super().draw(renderer)

    def findobj(self, match: Any = None, include_self: bool = True) -> list[Any]:
        """As matplotlib's; ticks and their labels are made when they are looked for."""
        with matplotlib.rc_context(AS_IT_STANDS):
            return super().findobj(match, include_self)


def as_it_stands(make: Callable[P, R]) -> Callable[P, R]:
    """A function whose texts are made without mathematics: every one that draws on a `Sheet`.

    Example:
        >>> as_it_stands(lambda: Sheet(1.0).suptitle("$"))().get_parse_math()
        False
    """

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(AS_IT_STANDS):
            return make(*args, **kwargs)

    return made


def label(name: str) -> str:
    """A name as figures print it: of a long one the beginning and the end.

    Example:
        >>> label("cross-attention"), label("a" * 20 + "b" * 20)
        ('cross-attention', 'aaaaaaaaaaaaaa…bbbbbbbbbbbbb')
    """
    half = LETTERS // 2
    return name if len(name) <= LETTERS else f"{name[:half]}…{name[1 - half :]}"
