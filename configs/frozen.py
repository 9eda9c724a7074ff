"""Cross-attention or one stream, behind a frozen and behind an adapted text decoder?

Idefics2 (Laurencon et al. 2024, arXiv:2405.02246, section 3.2) found cross-attention ahead by 7
points while the backbones are frozen, and the fully autoregressive design, in which the image
stands before the words, ahead once they are adapted (LoRA); one seed, no interval. Frozen
(Tsimpoukelli et al. 2021, arXiv:2106.13884) trained the image's encoder alone.

Expected:  frozen: cross-attention ahead, by far, since it brings weights of its own, and one stream
           trains the image's encoder alone. Adapted: not known at this size; from scratch `fusion`
           has cross-attention ahead. Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), as
           Idefics2 had them, lie between.
Found:     frozen: cross-attention ahead by 0.811 [0.556, 1.000]; the other claims inconclusive.
Hardware:  one core, two hardware threads, 11 minutes.
Command:   python -m experiments.ablate frozen
"""

from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL, OF_PRESETS, QUICK
from .gating import TEXT

# Rank 8 beside every projection of attention and of feed-forward layers of the text decoder.
ADAPTED = {"optimizer.frozen": TEXT, "optimizer.adapted": "self_attention|mlp"}
ONE_STREAM = {"model.preset": "prefix_lm", **OF_PRESETS}

SUITE = Suite(
    name="frozen",
    title="cross-attention and one stream, with a frozen and with an adapted text decoder",
    base=Run(
        model=MODEL,
        optimizer=Optimizer(learning_rate=4e-3),
        steps=1_000,
        pretrain_text_steps=250,
        checkpoint_every=250,
    ),
    variants={
        "cross-attention": {},
        "one-stream": ONE_STREAM,
        "frozen-cross-attention": {"optimizer.frozen": TEXT},
        "frozen-one-stream": {"optimizer.frozen": TEXT, **ONE_STREAM},
        "lora-cross-attention": ADAPTED,
        "lora-one-stream": {**ADAPTED, **ONE_STREAM},
    },
    baseline="cross-attention",
    primary="pairs/accuracy",
    claims=(
        ("frozen-cross-attention", "frozen-one-stream"),
        ("one-stream", "cross-attention"),
        ("cross-attention", "frozen-cross-attention"),
        ("lora-one-stream", "lora-cross-attention"),
    ),
    quick={**QUICK, "pretrain_text_steps": 20},
    notes=(
        "All rows see no image in their first 250 steps. Then everything is trained on, or, in the "
        "rows that begin with frozen-, the image's encoder and whatever cross-attention has of "
        "its own: for one stream that is the encoder alone.",
        "The rows without a prefix train all parameters; those that begin with lora- freeze the "
        "text decoder as the frozen- rows do, and train adapters of rank 8 beside all projections "
        "of its self-attention and feed-forward layers. The text decoder has read these captions "
        "and questions only, no other text.",
    ),
)
