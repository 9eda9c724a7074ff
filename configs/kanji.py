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
Found:     on pairs oracle-attention 0.992, cross-attention 0.094 [0.024, 0.164], bidirectional
           0.060, co-attention 0.004, all others 0; on the test 0.998, 0.760, 0.699, 0.653,
           single-stream 0.321, resampler 0.315, mean-pool 0.231, blind 0.198. Of one seed of
           cross-attention held-out answers to "which part is there" were 0.243 right and none to
           "where is it": training only ever rules these out

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
