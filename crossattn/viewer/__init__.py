"""A page on which a word lights up the regions that it attends to, for any model's attention.

One HTML file that holds everything that it shows, forbids itself every network and works from a
disk, in a notebook's cell, on a telephone, by pointer, keyboard and screen reader. Keys are patches
of a picture, frames of a sound or named tokens. Of several texts, true regions, knock-outs or two
runs side by side, `explore` takes a list of `Example`.

>>> import numpy as np
>>> image = np.zeros((32, 32, 3), np.uint8)
>>> weights = np.full((4, 8, 2, 16), 1 / 16)  # layers, heads, words, 4 x 4 patches
>>> page = explore(image, ["red", "ring"], weights)
>>> page.save("words.html")  # doctest: +SKIP
"""

from crossattn.viewer.example import Answer, Example
from crossattn.viewer.page import Page, explore

__all__ = ["Answer", "Example", "Page", "explore"]
