"""How much of an image may be squeezed into latents before words no longer find their region?

Flamingo reads images through a resampler (Alayrac et al. 2022, arXiv:2204.14198, Table 3: Perceiver
resampler 70.7 overall, a plain transformer 66.7, an MLP 66.6; one seed, no interval), BLIP-2
through a Q-Former (Li et al. 2023, arXiv:2301.12597), Kosmos-2 through one attention without an MLP
(Peng et al. 2023, arXiv:2306.14824). The questions here are about one object among several, of
colours and shapes that were never together in training.

Expected:  all 64 patches over 16 latents over 4 over 1, which is as one pooled vector; 64 latents
           do not win back what is lost, since a latent is made before the question is known.
           A resampler with an MLP over the projector, which has none.
Found:     patches over 16 latents, 4 over 1; 16 over 4 and 16 over the projector inconclusive.
Hardware:  one core, two hardware threads, 15 minutes.
Command:   python -m experiments.ablate bottleneck
"""

from crossattn.train.suite import Suite

from .fusion import QUICK
from .fusion import SUITE as FUSION


def _latents(count: int, connector: str = "perceiver_encode") -> dict[str, object]:
    return {"model.connector": connector, "model.latents": count}


SUITE = Suite(
    name="bottleneck",
    title="how many latents between image and words, on scenes with exact word-region truth",
    base=FUSION.base,
    variants={
        "patches": {},
        "resampler-1": _latents(1),
        "resampler-4": _latents(4),
        "resampler-16": _latents(16),
        "resampler-64": _latents(64),
        "q-former-16": _latents(16, "qformer"),
        "projector-16": _latents(16, "latent_projector"),
    },
    baseline="patches",
    primary="pairs/accuracy",
    claims=(
        ("patches", "resampler-16"),
        ("resampler-16", "resampler-4"),
        ("resampler-4", "resampler-1"),
        ("resampler-16", "projector-16"),
    ),
    quick=QUICK,
    notes=(
        "The attention of a row with latents is composed: the map from words to latents times the "
        "map from latents to patches. It says where the image was read, and not that a word chose "
        "this place.",
        "64 latents are as many as there are patches: what this row loses is not room. Latents "
        "read the image before any word is known, and words read them in place of the patches.",
        "The Q-Former has two layers, of which the first reads the image; the projector is one "
        "attention without an MLP. So rows differ in parameters and time as well, see their costs.",
    ),
)
