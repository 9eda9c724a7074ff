"""How should text and image be joined? The headline suite.

Eight ways of joining the same words to the same patches, on scenes whose word-region truth is
exact. All see the same batches. Blind, mean-pool, cross-attention and oracle-attention have the
same parameters, too: only what the cross-attention may read differs.

Command:   make ablate            (python -m experiments.ablate fusion)
"""

from dataclasses import replace

from crossattn.nn import presets
from crossattn.nn.config import MLPConfig, ResidualConfig
from crossattn.train.run import Model, Optimizer, Run
from crossattn.train.suite import Suite

# Of every row: norms before all sublayers, and narrow MLPs.
LAYERS = {"residual": ResidualConfig(), "mlp": MLPConfig(expansion=2.0)}
MODEL = Model(block=replace(presets.config("encoder_decoder_pre"), **LAYERS))
OF_PRESETS = {f"model.block.{name}": value for name, value in LAYERS.items()}
# Two streams, of which the words alone have self-attention.
TWO_STREAMS = {"model.preset": "meter", "model.block.one_sided": ("self",), **OF_PRESETS}
# A smoke run of a suite that asks something else of the same scenes.
QUICK = {
    "steps": 60,
    "checkpoint_every": 30,
    "data.images": 1_000,
    "data.evaluation_images": 100,
}

SUITE = Suite(
    name="fusion",
    title="eight ways of joining text and image, on scenes with exact word-region truth",
    base=Run(
        model=MODEL,
        optimizer=Optimizer(learning_rate=4e-3),
        steps=800,
        checkpoint_every=200,
    ),
    variants={
        "blind": {"model.context_view": "none"},
        "mean-pool": {"model.context_view": "mean"},
        "single-stream": {"model.preset": "prefix_lm", **OF_PRESETS},
        "cross-attention": {},
        "co-attention": TWO_STREAMS,
        "bidirectional": {**TWO_STREAMS, "model.block.exchange": "one-product"},
        "resampler": {"model.connector": "perceiver_encode"},
        "oracle-attention": {"model.context_view": "truth"},
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
