"""What is written in a figure, and whether all of it can be read."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text


def texts_of(figure, monkeypatch):
    """(text, box in pixels) of everything that is written when a figure is painted."""
    written, draw = [], Text.draw
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", lambda text, *rest: (written.append(text), draw(text, *rest)))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return [
        (text.get_text(), text.get_window_extent(canvas.get_renderer()))
        for text in written
        if text.get_text().strip() and text.get_visible()
    ]


def check_layout(figure, texts):
    """No text lies on another, none beyond the edge."""
    for (first, box), (second, other) in itertools.combinations(texts, 2):
        assert not box.padded(-1).overlaps(other.padded(-1)), (first, second)
    for text, box in texts:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text
