"""Every published design as a row: the same words, the same scenes, another preset.

Decoders read the patches in every layer; flamingo, idefics and mllama stand among blocks of text;
poolers and resamplers make latents that an encoder_decoder_pre reads; the others have a stream of
patches beside the words, before them, or behind a few shared tokens. ip_adapter reads the boxes of
objects beside the image: it is the one row that is given them.

Command:   python -m experiments.ablate presets --quick
"""

from crossattn.nn import presets
from crossattn.train.run import Data, Model, Optimizer, Run
from crossattn.train.suite import Suite

OTHERS = {"model.contexts": ("image",), "model.block.mlp.expansion": 2.0}

SUITE = Suite(
    name="presets",
    title="every published design of the library, on scenes with exact word-region truth",
    base=Run(
        data=Data(images=4_000, evaluation_images=400),
        model=Model(contexts=("image", "boxes")),
        optimizer=Optimizer(learning_rate=2e-3),
        steps=800,
        checkpoint_every=200,
    ),
    variants={
        name: {"model.preset": name} | ({} if name == "ip_adapter" else OTHERS)
        for name in presets.names()
    },
    baseline="encoder_decoder_pre",
    primary="pairs/accuracy",
    quick={
        "steps": 60,
        "checkpoint_every": 60,
        "data.images": 400,
        "data.evaluation_images": 100,
    },
    notes=(
        "Rows have their published order, norms, gates, activations and biases, and the width, "
        "depth and MLP of the base. Gates that begin closed, and factors of 1e-4 before an "
        "exchange, open late: rows that have them would gain by longer runs.",
        "Where a design only exchanges between streams (bidirectional), each stream has "
        "self-attention and an MLP behind it, as in Grounding DINO.",
    ),
)
