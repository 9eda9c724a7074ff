r"""HTML of small displays: texts, tables, grids of cells. No script, no style sheet, no network.

What a value says of itself in a notebook is a `Display`. Its colours are those of the page around
it, so that it can be read in the dark as well.
"""

import base64
import html
import io
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = [
    "Display",
    "blues",
    "figure",
    "heat_map",
    "html_table",
    "html_text",
    "picture",
    "visible",
]

# Control characters, invisible marks that reorder text, line separators and lone surrogates.
HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")
# Joiners and breaks within words of many scripts, and signs of Arabic and Syriac that are seen.
JOINERS = "\xad\u200b\u200c\u200d\u2060\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2"
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

FRAME = "font:0.9rem/1.45 system-ui,sans-serif;margin:0.4em 0;max-width:72rem"
CELL = "padding:2px 1em 2px 0;text-align:left;vertical-align:top"
LINE = "border-bottom:1px solid rgba(128,128,128,0.45)"
# From few to many, and what is no number.
PALE, DEEP, NAN = (236, 240, 246), (16, 62, 130), (214, 40, 40)
# Levels of a heat map: few, so that its PNG is small.
LEVELS = 48


class Display:
    """A value that a terminal shows as text and a notebook as HTML.

    >>> Display("1 0\\n1 1", "<p>a grid</p>")
    1 0
    1 1
    """

    def __init__(self, text: str, html: str):
        self.text, self.html = text, html

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self.html


def visible(text: str, *, keep: str = "") -> str:
    r"""The text with an escape for every character that would act instead of being seen.

    Twice is as good as once. Characters in `keep` stay.

    Example:
        >>> print(visible("red\x1b[31m\nblue"), visible("a\nb", keep="\n"), sep=" | ")
        red\x1b[31m\nblue | a
        b
    """
    if text.isprintable():
        return text
    stays = lambda letter: letter.isprintable() or letter in keep
    return "".join(letter if stays(letter) else _seen(letter) for letter in text)


def _seen(letter: str) -> str:
    if unicodedata.category(letter) not in HIDDEN or letter in JOINERS:
        return letter
    number = ord(letter)
    return SHORT.get(letter) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def html_text(text: Any) -> str:
    """Plain text as HTML prints it: nothing in it acts.

    >>> html_text("<script>alert(1)</script>")
    '&lt;script&gt;alert(1)&lt;/script&gt;'
    """
    return html.escape(visible(str(text)))


def figure(title: str, *parts: str, note: str = "") -> str:
    """A display: its title and note in plain text, and between them HTML.

    >>> figure("a & b", "<p>c</p>")[-41:]
    '<div><b>a &amp; b</b></div><p>c</p></div>'
    """
    below = f'<div style="opacity:0.75">{html_text(note)}</div>' if note else ""
    return f'<div style="{FRAME}"><div><b>{html_text(title)}</b></div>{"".join(parts)}{below}</div>'


def html_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of plain texts; the first cell of a row is its head.

    >>> html_table(["field", "value"], [["gate", "'tanh'"]]).count("<tr>")
    2
    """
    head = "".join(f'<th scope="col" style="{CELL};{LINE}">{html_text(one)}</th>' for one in header)
    body = "".join(f"<tr>{_row(row)}</tr>" for row in rows)
    inside = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    table = f'<table style="font-size:inherit;border-collapse:collapse">{inside}</table>'
    return f'<div style="overflow-x:auto">{table}</div>'


def _row(row: Sequence[Any]) -> str:
    first, *rest = row
    head = f'<th scope="row" style="{CELL};font-weight:600">{html_text(first)}</th>'
    return head + "".join(f'<td style="{CELL}">{html_text(one)}</td>' for one in rest)


def blues(levels: int) -> np.ndarray:
    """Colours (levels, 3) from few to many, uint8.

    >>> blues(2).tolist()
    [[236, 240, 246], [16, 62, 130]]
    """
    share = np.linspace(0, 1, levels)[:, None]
    return np.rint(np.array(PALE) * (1 - share) + np.array(DEEP) * share).astype(np.uint8)


def picture(
    levels: np.ndarray, colours: np.ndarray, *, caption: str = "", widest: int = 320
) -> str:
    """A grid of cells (rows, columns) with the colours (N, 3) that integers in [0, N) choose.

    Cells are squares of as many whole pixels as let the longer side have `widest`, with a gap
    between them where there is room.

    >>> picture(np.zeros((2, 3), int), blues(2), caption="<b>")[:35]
    '<figure style="display:inline-block'
    """
    rows, columns = levels.shape
    if not levels.size:
        return f"<div>{html_text(caption)}: no cells</div>"
    size = int(np.clip(widest // max(rows, columns, 1), 1, 22))
    image = np.repeat(np.repeat(levels.astype(np.uint8), size, axis=0), size, axis=1)
    if size > 5:
        gap = np.arange(max(rows, columns) * size) % size == size - 1
        image[gap[: rows * size, None] | gap[None, : columns * size]] = len(colours)
    said = html_text(caption)
    below = f'<figcaption style="opacity:0.75">{said}</figcaption>' if caption else ""
    return (
        '<figure style="display:inline-block;margin:0.4em 1em 0.4em 0;vertical-align:top">'
        f'<img alt="{said}" width="{columns * size}" height="{rows * size}" '
        f'style="max-width:none" src="{_png(image, colours)}">{below}</figure>'
    )


def heat_map(numbers: np.ndarray, *, caption: str = "", widest: int = 320) -> str:
    """Numbers (rows, columns), 0 or more, from pale (0) to deep (the largest); NaN is red.

    >>> "up to 0.5" in heat_map(np.array([[0, 0.5]]), caption="head 0")
    True
    """
    wrong = ~np.isfinite(numbers)
    numbers = np.where(wrong, 0, numbers)
    top = float(numbers.max(initial=0))
    levels = np.rint(numbers / (top or 1) * (LEVELS - 1)).astype(int)
    levels = np.where(wrong, LEVELS, np.clip(levels, 0, LEVELS - 1))
    said = f"{caption}: up to {top:.2g}" + (", red: NaN" if wrong.any() else "")
    return picture(levels, np.vstack([blues(LEVELS), NAN]), caption=said, widest=widest)


def _png(image: np.ndarray, colours: np.ndarray) -> str:
    """A data URI of pixels (h, w) in these colours; one beyond them shows what is behind."""
    from PIL import Image

    buffer, drawn = io.BytesIO(), Image.fromarray(image)
    drawn.putpalette(np.vstack([colours, DEEP]).astype(np.uint8).tobytes())
    drawn.save(buffer, "PNG", optimize=True, transparency=len(colours))
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
