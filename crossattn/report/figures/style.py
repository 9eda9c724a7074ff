"""Style of all figures: size, colours, markers, labels, and texts without mathematics.

matplotlib reads `$...$` in a text as mathematics, and a text like "is it $$ or so?" is then an
error. Words and names of data are no mathematics, so every figure of a report is a `ReportFigure`
made by a function under `without_mathtext`.
"""

import functools
import io
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from crossattn.shapes import Bool

WIDTH = 6.2
WITHOUT_MATHTEXT: Any = {"text.parse_math": False, "text.usetex": False}
# Letters of a name that a figure has room for; tables hold it whole.
LETTERS = 28

P = ParamSpec("P")
R = TypeVar("R")


class ReportFigure(Figure):
    """A figure that is drawn without mathematics, also the ticks that are made while drawing."""

    def __init__(self, height: float):
        super().__init__(figsize=(WIDTH, height), layout="constrained")

    def draw(self, renderer: Any) -> None:
        """Paint the figure; a letter that the font lacks is painted as a box, without a warning."""
        with matplotlib.rc_context(WITHOUT_MATHTEXT), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Glyph .* missing from", UserWarning)
            warnings.filterwarnings("ignore", r"Matplotlib currently does not support", UserWarning)
            super().draw(renderer)

    def _repr_png_(self) -> bytes:
        """Of itself in a notebook, whatever backend matplotlib has there."""
        return png(self)

    def findobj(self, match: Any = None, include_self: bool = True) -> list[Any]:
        """As matplotlib's; ticks and their labels are made when they are looked for."""
        with matplotlib.rc_context(WITHOUT_MATHTEXT):
            return super().findobj(match, include_self)


def without_mathtext(make: Callable[P, R]) -> Callable[P, R]:
    """A function whose texts are made without mathematics: every one that draws a figure.

    Example:
        >>> without_mathtext(lambda: ReportFigure(1.0).suptitle("$"))().get_parse_math()
        False
    """

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(WITHOUT_MATHTEXT):
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


DOTS_PER_INCH = 150
ROW = 0.16
FONT = 8
COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F")
MARKERS = "osD^vPX*"
DASHES = (0, (4, 3))


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file.

    Example:
        >>> png(Figure(figsize=(1, 1)))[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return buffer.getvalue()


def style_of(index: int) -> tuple[str, str]:
    """Colour and marker of the variant at a place in its suite, different ones for 64.

    Example:
        >>> style_of(0), style_of(8), len({style_of(index) for index in range(64)})
        (('#000000', 'o'), ('#000000', 's'), 64)
    """
    shift, colour = divmod(index, len(COLOURS))
    return COLOURS[colour], MARKERS[(colour + shift) % len(MARKERS)]


def tidy(axes: Any) -> None:
    """Small labels, no frame at the top and right, and a faint upright grid."""
    axes.tick_params(labelsize=FONT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    axes.set_axisbelow(True)


def logarithmic(axes: Any, *, room: float = 1.0) -> None:
    """A logarithmic horizontal axis with plain numbers, as many as fit.

    The default writes powers of ten, and none at all within one of them.

    Args:
      axes: with what is drawn already.
      room: width of the axis, of a page's.
    """
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = math.log10(high / low) / room
    steps = (1, 1.5, 2, 3, 5, 7) if decades < 1.5 else (1, 2, 5) if decades < 4 else (1,)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def draw_outline(axes: Any, region: Bool[np.ndarray, "h w"]) -> None:
    """Draw the outline of a region over its picture, white on black; none where it is empty."""
    if not region.any():
        return
    height, width = region.shape
    # A margin lets the outline close where the region touches the picture's edge.
    edge = np.pad(region, 1).astype(float)
    place = np.arange(-1, height + 1), np.arange(-1, width + 1)
    for colour, thickness in (("black", 2.2), ("white", 1.1)):
        axes.contour(place[1], place[0], edge, [0.5], colors=colour, linewidths=thickness)
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def legend(
    figure: Figure, names: Sequence[str], *, line: bool = False, first_colour: int = 0
) -> None:
    """A legend above the panels, where it hides nothing; `line`: its markers stand on lines."""
    labels = [*map(label, names)]
    handles = [
        Line2D(
            [],
            [],
            color=style_of(style)[0],
            marker=style_of(style)[1],
            markersize=5,
            linestyle="-" if line else "",
            label=name,
        )
        for style, name in enumerate(labels, start=first_colour)
    ]
    # Four labels of about 16 letters fill a line.
    columns = max(1, min(4, 80 // (max(map(len, labels)) + 4)))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, fontsize=FONT, frameon=False
    )
