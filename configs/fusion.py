"""How should text and image be joined? The headline suite.

Eight ways of joining the same words to the same patches, on scenes whose word-region truth is
exact. All see the same batches. Blind, mean-pool, cross-attention and oracle-attention have the
same parameters, too: only what the cross-attention may read differs.

Command:   make ablate            (python -m experiments.ablate fusion)
"""

from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

SUITE = Suite(
    name="fusion",
    title="eight ways of joining text and image, on scenes with exact word-region truth",
    base=Run(
        optimizer=Optimizer(learning_rate=4e-3),
        steps=800,
        checkpoint_every=100,
    ),
    variants={
        "blind": {"model.fusion": "blind"},
        "mean-pool": {"model.fusion": "mean-pool"},
        "single-stream": {"model.fusion": "single-stream"},
        "cross-attention": {"model.fusion": "cross-attention"},
        "co-attention": {"model.fusion": "co-attention"},
        "bidirectional": {"model.fusion": "bidirectional"},
        "resampler": {"model.fusion": "resampler"},
        "oracle-attention": {"model.fusion": "oracle-attention"},
    },
    baseline="cross-attention",
    primary="pairs/accuracy",
    claims=(
        ("cross-attention", "mean-pool"),
        ("mean-pool", "blind"),
        ("cross-attention", "resampler"),
    ),
    quick={
        "steps": 120,
        "checkpoint_every": 30,
        "data.images": 2_000,
        "data.evaluation_images": 200,
    },
    notes=(
        "The variant oracle-attention is told the true region of every word, that of the word to "
        "predict included: it is an upper bound and no method.",
        "The attention of single-stream is renormalised over the patches, and the share that they "
        "have of it stands beside it; that of resampler is the product of both its maps. "
        "Co-attention and bidirectional have a second stream of patches, with weights of its own.",
    ),
)
