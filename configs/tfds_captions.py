"""The fusion rows on pictures with captions of one's own: a prepared TFDS directory.

As `tfds`, for directories without questions, or where only the captions are to be learnt.

Command:   python -m experiments.ablate tfds_captions --data.directory DIR
"""

import dataclasses

from crossattn.train.run import replace
from crossattn.train.suite import Suite

from .scene_captions import SUITE as CAPTIONS
from .tfds import SUITE as TFDS

SUITE: Suite = dataclasses.replace(
    TFDS,
    name="tfds_captions",
    title="the fusion rows on the captions of a TFDS directory of one's own",
    base=replace(TFDS.base, {"data.tasks": ("caption",)}),
    primary="test/perplexity",
    notes=(CAPTIONS.notes[0], TFDS.notes[1]),
)
