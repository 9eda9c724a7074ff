"""Does the ranking of designs on scenes hold on characters?

The rows of `fusion` on parts of characters of KanjiVG: four of 24 parts, one in each quarter of a
picture, with the strokes that some real character has; which part is where, where is a part, is it
there at all, with masks to the pixel. Judged on pairs of a part and a position that training never
shows, with strokes of characters that give training none: every third part lacks one of its four
positions.

Parts are put together, since whole characters ask for no look: where a part stands can mostly be
guessed from the part, and two parts beside each other tell each other's position. Text alone
answered 0.53 of such a test, and no row but oracle-attention left the floor of pairs.

The set is built first, from the package kanjivg (CC-BY-SA 3.0), which pip installs:
           python -m experiments.build_data kanji data/kanji

Hardware:  two processor threads; 3,000 steps of cross-attention and what is measured of them take
           about 2 minutes of processor time
Expected:  blind and mean-pool 0 on pairs, oracle-attention far over all others
Found:     with 3 seeds, on pairs oracle-attention 0.993, cross-attention 0.114 [0.000, 0.284],
           bidirectional 0.047, co-attention 0.007, all others 0; on the test 0.998, 0.764, 0.668,
           0.677, single-stream 0.356, resampler 0.340, mean-pool 0.229, blind 0.194. Held-out
           answers to where a part is are never found: training has only ruled them out

Command:   python -m experiments.ablate kanji --data.directory data/kanji
"""

from dataclasses import replace

from .fusion import SUITE as FUSION
from .stamps import SUITE as STAMPS

SUITE = replace(
    STAMPS,
    name="kanji",
    title="the fusion rows on characters and their parts, with exact masks",
    base=replace(STAMPS.base, steps=3_000, checkpoint_every=1_000),
    variants=FUSION.variants,
)
