"""Strokes of characters: paths of SVG files as lines, and lines as pixels."""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw

from crossattn.data.errors import DataError
from crossattn.shapes import Float

__all__ = ["draw_strokes", "parse_path"]

TOKEN = re.compile(r"[A-Za-z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
# Numbers that each command takes.
TAKES = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4}
# Points of a curve, and pixels that are averaged along a side of each pixel.
POINTS, FINE = 12, 8


def parse_path(path: str) -> Float[np.ndarray, "P 2"]:
    """The points of one stroke: the attribute d of an SVG path, of lines and cubic curves.

    Returns:
        x and y along it, float64; a curve has 12 points behind its first.

    Raises:
        DataError: it is none, or has other commands.

    Example:
        >>> parse_path("M1,2l3,0c0,1 0,1 0,3")[[0, 1, -1]].tolist()
        [[1.0, 2.0], [4.0, 2.0], [4.0, 5.0]]
    """
    points: list[np.ndarray] = []
    here = handle = np.zeros(2)
    for command, numbers in _commands(path):
        if (command.upper() == "M") != (not points):
            raise DataError(f"the path {path[:40]!r} is no single stroke")
        if command.upper() in "HV":
            along = 0 if command.upper() == "H" else 1
            to = np.where(np.arange(2) == along, numbers[0], here if command.isupper() else 0.0)
            corners = to[None]
        else:
            corners = np.array(numbers).reshape(-1, 2)
        if command.islower():
            corners = corners + here
        if command.upper() == "S":
            corners = np.concatenate([(2 * here - handle)[None], corners])
        if len(corners) == 3:
            points += list(_curve(here, *corners))
        else:
            points.append(corners[-1])
        # What the next smooth curve mirrors.
        handle = corners[-2] if len(corners) == 3 else corners[-1]
        here = corners[-1]
    return np.stack(points)


def _commands(path: str) -> Iterator[tuple[str, list[float]]]:
    """Each command with its numbers; one that is not repeated by its letter as well."""
    rest = TOKEN.sub("", path).strip(" ,\t\n\r")
    tokens = TOKEN.findall(path)
    if rest or not tokens or tokens[0] not in "Mm":
        raise DataError(f"{path[:40]!r} is no path of SVG that begins with M")
    command, place = "", 0
    while place < len(tokens):
        if tokens[place].isalpha():
            command, place = tokens[place], place + 1
        elif command in "Mm":
            command = "L" if command == "M" else "l"
        count = TAKES.get(command.upper(), 0)
        numbers = tokens[place : place + count]
        if not count or len(numbers) < count or any(one.isalpha() for one in numbers):
            raise DataError(f"the path {path[:40]!r} has {command} with {len(numbers)} numbers")
        yield command, [float(one) for one in numbers]
        place += count


def _curve(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Points of a cubic Bezier curve behind its first."""
    t = (np.arange(1, POINTS + 1) / POINTS)[:, None]
    s = 1 - t
    return s**3 * a + 3 * s**2 * t * b + 3 * s * t**2 * c + t**3 * d


def draw_strokes(
    strokes: Sequence[Float[np.ndarray, "_ 2"]], size: int, width: float
) -> Float[np.ndarray, "size size"]:
    """How much of each pixel strokes cover, 0 to 1: lines of a width in pixels with round ends."""
    canvas = Image.new("L", (size * FINE, size * FINE))
    pen = ImageDraw.Draw(canvas)
    wide = max(1, round(width * FINE))
    half = wide / 2
    for stroke in strokes:
        # Pillow's pixel of number 0 has its middle at 0.
        points = [(float(x) * FINE - 0.5, float(y) * FINE - 0.5) for x, y in stroke]
        pen.line(points, fill=255, width=wide, joint="curve")
        for x, y in (points[0], points[-1]):
            pen.ellipse([x - half, y - half, x + half, y + half], fill=255)
    # Averages of 8 bits; all are of so many points of a pixel.
    points_of_pixel = FINE**2
    return np.rint(np.asarray(canvas.reduce(FINE), float) * points_of_pixel / 255) / points_of_pixel
