"""How should text and image be joined? The headline suite.

Four ways of joining the same decoder to the same patches, on scenes whose word-region truth is
exact. They have the same parameters and see the same batches; only what the cross-attention may
read differs.

Command:   make ablate            (python -m experiments.ablate fusion)
"""

from crossattn.train.run import Optimiser, Run
from crossattn.train.suite import Suite

SUITE = Suite(
    name="fusion",
    title="four ways of joining text and image, on scenes with exact word-region truth",
    base=Run(
        optimiser=Optimiser(learning_rate=4e-3),
        steps=800,
        checkpoint_every=100,
    ),
    variants={
        "blind": {"model.fusion": "blind"},
        "mean-pool": {"model.fusion": "mean-pool"},
        "cross-attention": {"model.fusion": "cross-attention"},
        "oracle-attention": {"model.fusion": "oracle-attention"},
    },
    baseline="cross-attention",
    primary="pairs/accuracy",
    claims=(("cross-attention", "mean-pool"), ("mean-pool", "blind")),
    quick={
        "steps": 120,
        "checkpoint_every": 30,
        "data.images": 2_000,
        "data.evaluation_images": 200,
    },
    notes=(
        "The variant oracle-attention is told the true region of every word, that of the word to "
        "predict included: it is an upper bound and no method.",
    ),
)
