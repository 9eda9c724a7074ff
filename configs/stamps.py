"""Does the ranking of designs on scenes hold on photographs?

The rows of `fusion` on scenes of real cut-out photographs (Tux Paint's stamps): one to three of 24
things in four places, questions about what, where, how many and whether, masks to the pixel. Judged
on pairs of a thing and a place that training never shows.

The set is built first, from Debian's tuxpaint-stamps-default (GPL-2):
           python -m experiments.build_data stamps data/stamps

Hardware:  two processor threads; 1,500 steps of cross-attention take about 25 s of processor time
Expected:  the order of `fusion`: cross-attention over the mean and the resampler
Found:     on pairs oracle-attention 0.884, cross-attention 0.130 [0.063, 0.196], bidirectional
           0.113, co-attention 0.074, single-stream and resampler 0.045, mean-pool and blind 0;
           cross-attention over mean-pool is supported, over the resampler is not (5 seeds). What
           answers 0.76 of the test has learnt as well that a thing is never in its fourth place

Command:   python -m experiments.ablate stamps --data.directory data/stamps
"""

from dataclasses import replace

from crossattn.data.folder.source import FolderData
from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL
from .fusion import SUITE as FUSION

SUITE = Suite(
    name="stamps",
    title="the fusion rows on scenes of real photographs, with exact masks",
    base=Run(
        data=FolderData("folder", texts_per_image=4, tasks=("question",)),
        model=replace(MODEL, image_encoder="conv"),
        optimizer=Optimizer(learning_rate=4e-3),
        steps=1_500,
        batch_size=64,
        checkpoint_every=500,
    ),
    variants=FUSION.variants,
    baseline=FUSION.baseline,
    primary=FUSION.primary,
    claims=FUSION.claims,
    quick={
        "steps": 60,
        "checkpoint_every": 30,
        "data.images": 400,
        "data.evaluation_images": 100,
    },
)
