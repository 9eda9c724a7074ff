"""Do designs keep their order when the model grows?

Designs are compared at one size and used at another. Three designs at three sizes, in one suite:
whether the order of the designs agrees over the sizes is a question to its table, beside the claims
at each size (Narang et al. 2021, arXiv:2102.11972, found that most changes of a Transformer do not
carry over). Sizes of the data are no rows, since all rows learn from the same data; they are
folders of their own, which a page compares:

    python -m experiments.ablate scale --data.images 2500 --out results/scale-2500
    python -m experiments.ablate scale --out results/scale-10000
    python -m experiments.ablate scale --data.images 40000 --out results/scale-40000

Expected:  cross-attention over the resampler over the mean at every size; the distance of the first
           two shrinks as the model grows, that of the last two grows.
Found:     the order holds at every size; the resampler over the mean is open at the smallest.
Hardware:  one core, two hardware threads, 13 minutes.
Command:   python -m experiments.ablate scale
"""

from crossattn.train.run import Optimizer, Run
from crossattn.train.suite import Suite

from .fusion import MODEL, QUICK

SIZES = {
    "small": {"model.width": 32, "model.layers": 1},
    "medium": {"model.width": 64, "model.layers": 2},
    "large": {"model.width": 96, "model.layers": 3},
}
DESIGNS = {
    "cross-attention": {},
    "mean-pool": {"model.context_view": "mean"},
    "resampler": {"model.connector": "perceiver_encode"},
}

SUITE = Suite(
    name="scale",
    title="three designs at three sizes: does their order stay the same?",
    base=Run(
        model=MODEL,
        optimizer=Optimizer(learning_rate=3e-3),
        steps=500,
        checkpoint_every=250,
    ),
    variants={
        f"{design}-{size}": {**DESIGNS[design], **SIZES[size]}
        for size in SIZES
        for design in DESIGNS
    },
    baseline="cross-attention-medium",
    primary="pairs/accuracy",
    claims=(
        *((f"cross-attention-{size}", f"resampler-{size}") for size in SIZES),
        *((f"resampler-{size}", f"mean-pool-{size}") for size in SIZES),
    ),
    quick=QUICK,
    notes=(
        "All sizes have the same learning rate and the same steps: a size that another rate suits "
        "better is not at its best here (`--sweep` chooses a rate for each row).",
        "Sizes grow in width and depth at once: 32 and 1 layer, 64 and 2, 96 and 3.",
    ),
)
