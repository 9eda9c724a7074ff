"""The page: one HTML file that needs no other and asks the network for nothing."""

import base64
import hashlib
import html
import importlib.resources
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossattn.files import write_atomically
from crossattn.viewer.encode import encode_runs
from crossattn.viewer.example import Example
from crossattn.viewer.markup import html_text

# In this order they are one script.
SCRIPTS = ("weights", "drawing", "stage", "tables", "panel", "state", "keyboard", "main")
TITLE = "Where words look"
# Height in pixels of the page in a cell of a notebook.
HEIGHT = 820


class Page:
    """A page on which a word lights up the regions that it attends to.

    A notebook shows it as the value of a cell.

    Attributes:
      html: the whole page; it holds everything that it shows.
    """

    def __init__(self, html: str, summary: str):
        self.html = html
        self.summary = summary

    def save(self, path: str | Path) -> None:
        """Write the page as a file, which any browser opens, also without a network."""
        write_atomically(Path(path), self.html)

    def __repr__(self) -> str:
        return f"Page({self.summary}, {len(self.html) / 1e6:.2f} MB)"

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which can reach neither the notebook nor a network."""
        inside = html.escape(self.html)
        return (
            f'<iframe srcdoc="{inside}" sandbox="allow-scripts" title="{TITLE}" '
            f'style="width:100%;height:{HEIGHT}px;border:0"></iframe>'
        )


def explore(
    shown: Any,
    words: Sequence[str] | None = None,
    weights: Any = None,
    *,
    title: str = TITLE,
    compare: Sequence[Example] | None = None,
    names: Sequence[str] | None = None,
    **fields: Any,
) -> Page:
    """Make a page on which one clicks a word and sees where it looks, of any model's attention.

    Args:
      shown: a picture (h, w, 3), uint8 or floats in 0..1, or None where the keys are no picture;
        or, without `words` and `weights`, an `Example` or several.
      words: the T words.
      weights: attention of the words over the picture's patches (T, S), (H, T, S) or (L, H, T, S).
      title: what stands above the page.
      compare: the same examples by another run, shown beside the first.
      names: what the runs are called; two names where there is `compare`.
      **fields: further fields of `Example` for `words` and `weights`, such as `grid`, `tokens`.

    Returns:
      page: shows itself in a notebook; `page.save("words.html")` writes it. Weights are within
        1/510 of the given ones, and take at most 1.4 bytes each where keys are many.

    Raises:
      ValueError: arrays do not fit each other, or runs have unequal numbers of examples.

    Example:
      >>> import numpy as np
      >>> weights = np.random.default_rng(0).dirichlet(np.ones(16), (4, 8, 3))  # L, H, T; S
      >>> page = explore(np.zeros((32, 32, 3), np.uint8), ["a", "red", "ring"], weights)
      >>> page
      Page(1 example, 4 layers x 8 heads, ... MB)
    """
    if words is not None and weights is not None:
        examples = [Example(words, weights, image=shown, **fields)]
    elif words is None and weights is None and not fields:
        examples = [shown] if isinstance(shown, Example) else list(shown)
    else:
        raise ValueError("give explore(image, words, weights), or explore([Example(...), ...])")
    runs = [examples] if compare is None else [examples, list(compare)]
    if not examples or not all(isinstance(one, Example) for run in runs for one in run):
        raise ValueError("explore shows one or more of Example(words, weights, image=...)")
    if len(runs[-1]) != len(examples):
        raise ValueError(f"{len(examples)} examples are compared with {len(runs[-1])}")
    names = ("first run", "second run")[: len(runs)] if names is None else names
    texts = not isinstance(names, str) and all(isinstance(name, str) for name in names)
    if not texts or len(names) != len(runs):
        wanted = f"{_count(len(runs), 'text')}, one for each run"
        raise ValueError(f"names must be {wanted}, got {names!r}")
    L, H = examples[0].weights.shape[:2]
    summary = f"{_count(len(examples), 'example')}, {_count(L, 'layer')} x {_count(H, 'head')}"
    return Page(_render(title, encode_runs(names, runs)), summary)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + "s" * (number != 1)


def _render(title: str, content: dict[str, Any]) -> str:
    """The template with everything in its place; only our own style and script may act."""
    folder = importlib.resources.files("crossattn.viewer") / "template"
    style = (folder / "page.css").read_text("utf-8")
    script = "".join((folder / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
    script = f'"use strict";\n{script}'
    parts = {
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "title": html_text(title),
        "style": style,
        "script": script,
        "data": _inert(content),
    }
    template = (folder / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], template)


def _hash(text: str) -> str:
    """As a content security policy names what it lets run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inert(content: dict[str, Any]) -> str:
    """JSON that can end no element of HTML, all of it ASCII."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
