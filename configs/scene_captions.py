"""Captions alone: does a model read off the picture what it says?

The fusion rows on captions of scenes, with no question anywhere: judged by the perplexity of a word
on scenes that hold pairs of colour and shape which training never showed, beside the slots that
captions name rightly and the words that point to their regions.

Command:   python -m experiments.ablate scene_captions
"""

from crossattn.train.run import Data, Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL
from .fusion import SUITE as FUSION

SUITE = Suite(
    name="scene_captions",
    title="the fusion rows on captions alone, with exact word-region truth",
    base=Run(
        data=Data(tasks=("caption",)),
        model=MODEL,
        optimizer=Optimizer(learning_rate=4e-3),
        steps=800,
        checkpoint_every=100,
    ),
    variants=FUSION.variants,
    baseline=FUSION.baseline,
    primary="pairs/perplexity",
    claims=(("cross-attention", "mean-pool"), ("mean-pool", "blind")),
    quick=FUSION.quick,
    notes=(
        "Perplexity is e to the mean negative log-likelihood of a word given the true words before "
        "it, over all words of all captions, the end token included: lower is better. Its chance "
        "level is that of knowing how often each word occurs, and nothing else.",
        "Knock-outs hide the region of one colour or shape word of a caption, and ask whether that "
        "word is still predicted after the true words before it.",
        *FUSION.notes,
    ),
)
