"""Pictures beside the attention of single words over them, with the true outline drawn."""

import dataclasses
import textwrap

import numpy as np
from matplotlib.figure import Figure

from crossattn.report.figures.style import WIDTH, ReportFigure, draw_outline, without_mathtext
from crossattn.shapes import Float

SMALL_FONT = 7
# Letters of a caption that fit in a line.
LETTERS = 95
# Perceptually uniform, and dark where there is no attention.
COLOUR_MAP = "viridis"


@dataclasses.dataclass(frozen=True)
class Gallery:
    """G pictures with up to W words each; a picture may have fewer words than W.

    Attributes:
        pixels: pictures (G, h, w, 3), uint8.
        words: for each picture its words.
        weights: attention of each word over the patches (G, W, P), each row a distribution.
        grid: rows and columns of patches; P = rows * columns.
        outlines: true regions in pixels (G, W, h, w), bool; empty for a word without one.
        captions: the text of each picture.
        readings: "consumed" (the word is the input of the position that attends) or "predicted"
            (that position predicts it) for each word; None if all are consumed.
        of: whose attention it is, in words.
    """

    pixels: np.ndarray
    words: list[list[str]]
    weights: np.ndarray
    grid: tuple[int, int]
    outlines: np.ndarray
    captions: list[str]
    readings: list[list[str]] | None = None
    of: str = "one run"

    def __post_init__(self):
        pictures, height, width, _ = self.pixels.shape
        most = max(len(words) for words in self.words)
        rows, columns = self.grid
        wanted = {
            "weights": (pictures, self.weights.shape[1], rows * columns),
            "outlines": (pictures, self.weights.shape[1], height, width),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must be {shape}, got {getattr(self, name).shape}")
        if not len(self.words) == len(self.captions) == pictures:
            raise ValueError(f"{pictures} pictures need as many lists of words and captions")
        if most > self.weights.shape[1]:
            raise ValueError(f"{most} words but weights of {self.weights.shape[1]}")
        if height % rows or width % columns:
            raise ValueError(f"pictures of {height} x {width} do not divide into {self.grid}")


def mass_inside(weights: Float[np.ndarray, "rows columns"], outline: np.ndarray) -> float:
    """Attention inside a region: each patch counts with the share of its pixels in the region.

    Example:
        >>> outline = np.zeros((4, 4), bool)
        >>> outline[:2, :1] = True
        >>> mass_inside(np.array([[0.8, 0.2], [0.0, 0.0]]), outline)
        0.4
    """
    rows, columns = weights.shape
    height, width = outline.shape
    blocks = outline.reshape(rows, height // rows, columns, width // columns)
    return float((weights * blocks.mean((1, 3))).sum())


@without_mathtext
def draw_gallery(shown: Gallery) -> Figure:
    """One row for each picture: the picture, then the attention of its words, brightest at most."""
    most = max(len(words) for words in shown.words)
    side = WIDTH / (most + 1)
    captions = [textwrap.fill(caption, LETTERS) for caption in shown.captions]
    # A row with a longer caption is higher, so that all pictures have one size.
    heights = [side + 0.45 + 0.17 * (1 + caption.count("\n")) for caption in captions]
    figure = ReportFigure(sum(heights))
    rows = figure.subfigures(len(captions), 1, squeeze=False, height_ratios=heights)[:, 0]
    for picture, row in enumerate(rows):
        row.suptitle(captions[picture], fontsize=SMALL_FONT + 1, x=0.01, horizontalalignment="left")
        panels = row.subplots(1, most + 1, squeeze=False)[0]
        for axes in panels:
            axes.set_axis_off()
        panels[0].imshow(shown.pixels[picture])
        panels[0].set_title("picture", fontsize=SMALL_FONT)
        for word, axes in enumerate(panels[1 : len(shown.words[picture]) + 1]):
            _heat_map(axes, shown, picture, word)
    return figure


def _heat_map(axes, shown, picture, word):
    pixels, outline = shown.pixels[picture], shown.outlines[picture, word]
    weights = shown.weights[picture, word].reshape(shown.grid).astype(float)
    height, width = outline.shape
    patch = np.ones((height // shown.grid[0], width // shown.grid[1]))
    axes.imshow(pixels.mean(-1), cmap="gray", vmin=0, vmax=255)
    axes.imshow(
        np.kron(weights, patch), cmap=COLOUR_MAP, vmin=0, alpha=0.75, interpolation="nearest"
    )
    reading = shown.readings[picture][word] if shown.readings else "consumed"
    title = f"{shown.words[picture][word]}\n{reading}\n"
    title += f"mass {mass_inside(weights, outline):.2f}" if outline.any() else "no region"
    draw_outline(axes, outline)
    axes.set_title(title, fontsize=SMALL_FONT)
