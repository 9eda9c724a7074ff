"""The fusion rows on a published set: captions, expressions or questions, as its authors ship it.

COCO captions, Flickr30k Entities, RefCOCO, VQA v2, GQA, CLEVR and NLVR2 are read from their
folders, see docs/published_data.md; judged by the answers, or by the perplexity of captions.

Command:   python -m experiments.ablate published --data.source coco_captions --data.directory DIR
"""

import dataclasses

from crossattn.train.run import Data
from crossattn.train.suite import Suite

from .tfds import SUITE as TFDS

SUITE: Suite = dataclasses.replace(
    TFDS,
    name="published",
    title="the fusion rows on a published set",
    base=dataclasses.replace(TFDS.base, data=Data(source="coco_captions")),
    without_questions="test/perplexity",
    notes=(TFDS.notes[0],),
)
