"""Does the ranking of designs on scenes hold on characters?

The rows of `fusion` on characters of KanjiVG: which of 60 parts is left, right, at the top or at
the bottom, where is a part, is it there at all; the strokes of every part are known. Judged on
pairs of a part and a position that training never shows, in characters that it never shows.

The set is built first, from the package kanjivg (CC-BY-SA 3.0), which pip installs:
           python -m experiments.build_data kanji data/kanji

Hardware:  two processor threads; 1,000 steps of cross-attention take about 15 s of processor time
Expected:  on pairs cross-attention about 0.08, blind and mean-pool about 0; where a part is can be
           guessed of most parts without looking, so that blind answers 0.56 of the test

Command:   python -m experiments.ablate kanji --data.directory data/kanji
"""

from dataclasses import replace

from .fusion import SUITE as FUSION
from .stamps import SUITE as STAMPS

SUITE = replace(
    STAMPS,
    name="kanji",
    title="the fusion rows on characters and their parts, with exact masks",
    base=replace(STAMPS.base, steps=1_000),
    variants=FUSION.variants,
)
