"""The published designs by name; each is its neighbour with a few fields changed.

>>> names()[:3]
('encoder_decoder_pre', 'encoder_decoder_post', 'whisper')
>>> differences("flamingo", "idefics")
["join.norm: 'layer' -> 'rms'", "feed.activation: 'gelu' -> 'silu'", 'feed.gated: None -> True']
"""

from dataclasses import replace

from flax.core import FrozenDict

from crossattn.nn import design
from crossattn.nn.block import Block
from crossattn.nn.design import Design
from crossattn.nn.slots import Join, Logits, Rotary, Spare

__all__ = ["DESIGNS", "TEXT", "build", "differences", "names"]

AFTER = Join(site="after", epsilon=1e-12)
ALONE = Join(site="none", residual=False)
BEFORE = Join(epsilon=1e-5)
UNBIASED = FrozenDict(use_bias=False)

PRE = Design(join=BEFORE, feed=FrozenDict(activation="gelu"))
POST = replace(PRE, join=AFTER)
TEXT = replace(PRE, order=("self", "feed"))
WHISPER = replace(PRE, own=FrozenDict(use_bias="qvo"), cross=FrozenDict(use_bias="qvo"))
T5 = replace(
    PRE,
    join=Join(norm="rms"),
    own=FrozenDict(use_bias=False, logits=Logits(scale=1.0)),
    cross=FrozenDict(use_bias=False, logits=Logits(scale=1.0)),
    feed=FrozenDict(activation="relu", use_bias=False),
)
T5GEMMA = replace(
    T5,
    join=Join(site="around", norm="rms+1"),
    own=FrozenDict(use_bias=False, logits=Logits(softcap=50.0), placing=Rotary()),
    cross=FrozenDict(use_bias=False, logits=Logits(softcap=50.0)),
    feed=FrozenDict(activation="gelu-tanh", gated=True, use_bias=False),
)
MERGED = replace(
    T5GEMMA,
    order=("merged", "feed"),
    own=FrozenDict(),
    cross=FrozenDict(use_bias=False, logits=Logits(norm="rms+1"), placing=Rotary()),
)
FLAMINGO = Design(
    order=("cross", "feed"),
    join=Join(gate="tanh"),
    cross=UNBIASED,
    feed=FrozenDict(activation="gelu", use_bias=False),
)
IDEFICS = replace(
    FLAMINGO,
    join=Join(norm="rms", gate="tanh"),
    feed=FrozenDict(activation="silu", gated=True, use_bias=False),
)
MLLAMA = replace(
    IDEFICS,
    join=Join(norm="rms", epsilon=1e-5, gate="tanh"),
    cross=FrozenDict(use_bias=False, logits=Logits(norm="rms", epsilon=1e-5)),
    only_seeing=True,
)
PERCEIVER = replace(PRE, order=("cross", "feed"), context_norm="layer")
RESAMPLER = replace(
    PERCEIVER,
    cross=UNBIASED,
    feed=FrozenDict(activation="relu", use_bias=False),
    latents=True,
)
POOLER = replace(PERCEIVER, order=("cross",), cross_join=replace(BEFORE, residual=False))

DESIGNS: dict[str, Design] = {
    "encoder_decoder_pre": PRE,
    "encoder_decoder_post": POST,
    "whisper": WHISPER,
    "t5": T5,
    "t5gemma": T5GEMMA,
    "merged": MERGED,
    "flamingo": FLAMINGO,
    "idefics": IDEFICS,
    "mllama": MLLAMA,
    "perceiver_encode": PERCEIVER,
    "perceiver_decode": replace(PERCEIVER, cross_join=replace(BEFORE, residual=False)),
    "resampler": RESAMPLER,
    "resampler_masked": replace(
        RESAMPLER,
        join=Join(norm="rms"),
        context_norm="rms",
        feed=FrozenDict(activation="silu", gated=True, use_bias=False),
    ),
    "coca_pooler": POOLER,
    "map_head": replace(
        PERCEIVER, join=Join(), cross_join=ALONE, context_norm=None, feed=FrozenDict()
    ),
    "axial_rope": replace(
        POOLER,
        cross_join=ALONE,
        context_norm=None,
        cross=FrozenDict(placing=Rotary(neighbours=True)),
    ),
    "latent_projector": replace(
        POOLER, cross_join=ALONE, context_norm=None, lifted=True, latents=True
    ),
    "null_key": replace(PRE, cross=FrozenDict(spare=Spare(null=True, zero=True))),
    "sinks": replace(PRE, cross=FrozenDict(spare=Spare(sink=True))),
}


def names() -> tuple[str, ...]:
    """All presets."""
    return tuple(DESIGNS)


def build(name: str, *, width: int, heads: int) -> Block:
    """The module of a preset.

    Raises:
      ValueError: there is no preset of this name.
    """
    if name not in DESIGNS:
        raise ValueError(f"unknown preset {name!r}: one of {', '.join(names())}")
    return Block(width, heads, DESIGNS[name])


def differences(one: str, other: str) -> list[str]:
    """The fields in which two presets differ."""
    return design.differences(DESIGNS[one], DESIGNS[other])
