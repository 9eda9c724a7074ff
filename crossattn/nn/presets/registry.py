"""The published designs by name; each is its neighbour with a few fields changed.

>>> names()[:3]
('encoder_decoder_post', 'encoder_decoder_pre', 'whisper')
>>> differences("flamingo", "idefics")
["join.norm: 'layer' -> 'rms'", "feed.activation: 'gelu' -> 'silu'", 'feed.gated: None -> True']
"""

from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from flax import linen as nn
from flax.core import FrozenDict

from crossattn.nn import design
from crossattn.nn.block import Block
from crossattn.nn.choices import LINEN, known
from crossattn.nn.design import Design
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.families.two_stream_stack import StreamStack
from crossattn.nn.presets.two_stream import MODULES, PREFIX, STREAMS
from crossattn.nn.scan import Remat, policy_of
from crossattn.nn.slots import Join, Logits, Rotary, Spare
from crossattn.nn.stack import Stack
from crossattn.nn.stream_design import TwoStreamDesign
from crossattn.ops import BlockSizes
from crossattn.ops.numbers import checked_integer

__all__ = ["DESIGNS", "TEXT", "build", "differences", "names"]

AFTER = Join(site="after", epsilon=1e-12)
ALONE = Join(site="none", residual=False)
BEFORE = Join(epsilon=1e-5)
UNBIASED: Mapping[str, Any] = FrozenDict(use_bias=False)

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
    "cappa": replace(
        PRE, own=UNBIASED, cross=UNBIASED, feed=FrozenDict(activation="gelu", use_bias=False)
    ),
    "null_key": replace(PRE, cross=FrozenDict(spare=Spare(null=True))),
    "zero_key": replace(PRE, cross=FrozenDict(spare=Spare(zero=True))),
    "sinks": replace(PRE, cross=FrozenDict(spare=Spare(sink=True))),
    "registers": replace(PRE, cross=FrozenDict(spare=Spare(registers=4))),
}


ROWS = (
    *("encoder_decoder_post", "encoder_decoder_pre", "whisper", "t5", "t5gemma", "merged"),
    *("vilbert", "lxmert", "meter", "bridgetower", "flamingo", "idefics", "mllama"),
    *("perceiver_encode", "perceiver_decode", "resampler", "resampler_masked", "qformer"),
    *("coca_pooler", "coca_decoder", "map_head", "ip_adapter", "bidirectional"),
    *("sam_two_way", "sam_two_way_first", "axial_rope", "bottleneck", "prefix_lm", "cappa"),
    *("latent_projector", "null_key", "zero_key", "sinks", "registers"),
)


def names() -> tuple[str, ...]:
    """All presets, in the order of their kinds."""
    return ROWS


def build(
    name: str,
    *,
    width: int,
    heads: int,
    layers: int | None = None,
    remat: Remat = None,
    dtype: Any = None,
    implementation: str | BlockSizes | None = None,
) -> nn.Module:
    """The module of a preset.

    Args:
      name: of `names()`.
      width: M.
      heads: H.
      layers: of a scanned stack of the preset; one bare layer when None, and as many as were
        published for those that are stacks by themselves (qformer, coca_decoder, bottleneck).
      remat: what the backward pass of a stack computes again, see `Stack`.
      dtype: of the streams of a stack, e.g. bfloat16.
      implementation: of all its attention, as that of `attend`; None chooses.

    Returns:
      A module that is called in one of five ways; with layers, of the stack as of one layer:

      * `Block`, `Stack`, `CocaDecoder`: `module(x, context, mask=...)`.
      * `TwoStreams`, `Prefix`, their `StreamStack`, `Bottleneck`: `module((x, context),
        x_mask=..., context_mask=...)`.
      * The same for bridgetower, with `towers=(states of x, states of the context)`.
      * `QFormer`: `module(context, words, mask=..., self_mask=joint_mask(...))`, words may be None.
      * `DecoupledAttention` (ip_adapter): `module(x, [text, picture], scales=[1.0],
        masks=[...])`.

      All return the new streams and then the traces (of stacks: what `observe=` made of them);
      `CocaDecoder` has the text of its lower half between the two.

    Raises:
      ValueError: there is no preset of this name, no such sizes, or no stack for what only stacks
        have.

    >>> build("mllama", width=8, heads=2, layers=3, remat="everything").layers
    3
    """
    known("preset", name, ROWS)
    _check_sizes(width, heads, layers)
    policy_of(remat)
    policy: Any = {
        key: value for key, value in (("remat", remat), ("dtype", dtype)) if value is not None
    }
    module = _built(name, width, heads, layers, policy)
    return module if implementation is None else _implemented(module, implementation)


def _built(
    name: str, width: int, heads: int, layers: int | None, policy: dict[str, Any]
) -> nn.Module:
    if name in MODULES and name != "ip_adapter":
        depth = {} if layers is None else {"layers": layers}
        return MODULES[name](width=width, heads=heads, **depth, **policy)
    if name == "ip_adapter" and layers is not None:
        raise ValueError("ip_adapter is one attention, not a layer: leave layers out")
    if layers is None:
        if policy:
            raise ValueError(f"{' and '.join(policy)}: a field of stacks, give layers as well")
        return _layer(name, width, heads)
    if name in DESIGNS:
        return Stack(layers, width, heads, DESIGNS[name], **policy)
    return StreamStack(_layer(name, width, heads), layers, **policy)


def _implemented(part: Any, how: str | BlockSizes) -> Any:
    """A module or design, and all modules and designs within, with that implementation."""
    if isinstance(part, Design | TwoStreamDesign):
        told = {"implementation": how}
        return replace(
            part, own=FrozenDict({**part.own, **told}), cross=FrozenDict({**part.cross, **told})
        )
    if not isinstance(part, nn.Module):
        return part
    parts = {f.name: getattr(part, f.name) for f in fields_of(part) if f.name not in LINEN}
    new: Any = {n: how if n == "implementation" else _implemented(x, how) for n, x in parts.items()}
    return part.clone(**new)


def _check_sizes(width: int, heads: int, layers: int | None) -> None:
    for size, value in (("width", width), ("heads", heads), ("layers", layers)):
        if value is not None and checked_integer(size, value, least=None) < 1:
            more = ", or leave it out" if size == "layers" else ""
            raise ValueError(f"{size}={value}: give at least 1{more}")
    if width % heads:
        fitting = max(n for n in range(1, heads) if width % n == 0)
        raise ValueError(
            f"width {width} is not a multiple of heads {heads}: choose heads={fitting}, "
            "or another width"
        )


def _layer(name: str, width: int, heads: int) -> nn.Module:
    if name in DESIGNS:
        return Block(width, heads, DESIGNS[name])
    if name in STREAMS:
        return TwoStreams(width, heads, STREAMS[name])
    if name in PREFIX:
        return Prefix(width, heads, PREFIX[name])
    return MODULES[name](width=width, heads=heads)


def differences(one: str, other: str) -> list[str]:
    """The fields in which two presets differ; those of other modules begin with these."""
    a, b = (build(name, width=8, heads=2) for name in (one, other))
    kinds = [type(module).__name__ for module in (a, b)]
    lines = [] if kinds[0] == kinds[1] else [f"module: {kinds[0]} -> {kinds[1]}"]
    designs = [_design(module) for module in (a, b)]
    return [*lines, *design.differences(*designs)]


def _design(module: nn.Module) -> Any:
    return getattr(module, "upper", None) or getattr(module, "design", None)
