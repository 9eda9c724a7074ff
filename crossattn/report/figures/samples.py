"""One picture of each part of the data, with its texts and the outline of what they are about."""

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from crossattn.data.samples import PartSample
from crossattn.report.figures.style import (
    FONT,
    WIDTH,
    ReportFigure,
    draw_outline,
    label,
    without_mathtext,
)

ACROSS = 4
SMALL_FONT = 6.5
# Letters of a text that fit under a picture, and lines of it.
LETTERS, LINES = 27, 4
# Inches of a line.
LINE = 0.125
GIVEN, WANTED = "0.25", "#0057a8"


@without_mathtext
def draw_samples(samples: Sequence[PartSample]) -> Figure:
    """A panel for each part: the picture with an outline, under it what is given and what is not.

    The words that a model has to predict are in blue, behind an arrow.
    """
    lines = [_lines(sample) for sample in samples]
    side = WIDTH / ACROSS - 0.15
    starts = range(0, len(samples), ACROSS)
    most = [max(map(len, lines[start : start + ACROSS])) for start in starts]
    heights = [height for number in most for height in (side, LINE * number)]
    figure = ReportFigure(sum(heights) + 0.3 * len(most))
    grid = figure.subplots(len(heights), ACROSS, squeeze=False, height_ratios=heights)
    for axes in grid.ravel():
        axes.set_axis_off()
    for number, (sample, said) in enumerate(zip(samples, lines, strict=True)):
        row, column = divmod(number, ACROSS)
        picture, text = grid[2 * row, column], grid[2 * row + 1, column]
        picture.imshow(sample.pixels)
        picture.set_title(label(sample.part), fontsize=FONT)
        draw_outline(picture, sample.region)
        for line, (words, colour) in enumerate(said):
            place = {"va": "top", "transform": text.transAxes, "in_layout": False}
            text.text(0, 1 - line / most[row], words, fontsize=SMALL_FONT, color=colour, **place)
    return figure


def _lines(sample: PartSample) -> list[tuple[str, str]]:
    """Lines of text with their colours."""
    found = []
    for given, wanted in sample.texts:
        for words, colour in ((given, GIVEN), (f"\N{RIGHTWARDS ARROW} {wanted}", WANTED)):
            # No line begins with a question mark.
            words = words.replace(" ?", "\N{NO-BREAK SPACE}?")
            kept = textwrap.wrap(words, LETTERS, max_lines=LINES, placeholder=" …")
            found += [(line, colour) for line in kept]
    return found
