"""Does the ranking of designs on scenes hold on photographs?

The rows of `fusion` on scenes of real cut-out photographs (Tux Paint's stamps): one to three of 24
things in four places, questions about what, where, how many and whether, masks to the pixel. Judged
on pairs of a thing and a place that training never shows.

The set is built first, from Debian's tuxpaint-stamps-default (GPL-2):
           python -m experiments.build_data stamps data/stamps

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
