"""Two slots of one design, every pair of them: where the norm stands, and what gates a sublayer.

Command:   python -m experiments.ablate slots
"""

from crossattn.train.run import Data, Optimizer, Run
from crossattn.train.suite import Suite, grid

SUITE = Suite(
    name="slots",
    title="gates and norm sites of encoder_decoder_pre, on scenes with exact word-region truth",
    base=Run(
        data=Data(images=10_000, evaluation_images=1_000),
        optimizer=Optimizer(learning_rate=4e-3),
        steps=400,
        checkpoint_every=100,
    ),
    variants=grid(
        {
            "model.block.residual.gate": (None, "tanh", "sigmoid", "layer-scale"),
            "model.block.residual.norm": ("pre", "post", "sandwich"),
        }
    ),
    baseline="no gate, pre",
    primary="pairs/accuracy",
    quick={"steps": 60, "data.images": 400, "data.evaluation_images": 100},
)
