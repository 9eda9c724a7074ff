"""Presets by name, and the modules that they make."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flax import linen as nn

from crossattn.nn.block import Block
from crossattn.nn.choices import known
from crossattn.nn.config import BlockConfig, TwoStreamConfig, config_differences
from crossattn.nn.displays import Differences, changed_fields
from crossattn.nn.families.bottleneck import Bottleneck
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.nn.families.prefix import Prefix
from crossattn.nn.families.qformer import QFormer
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.families.two_stream_stack import StreamStack
from crossattn.nn.presets.published import PUBLISHED, Preset
from crossattn.nn.scan import Remat, policy_of
from crossattn.nn.stack import Stack
from crossattn.ops.numbers import checked_integer

__all__ = ["build", "config", "differences", "get", "names", "table"]

PRESETS = {preset.name: preset for preset in PUBLISHED}


def names() -> tuple[str, ...]:
    """All presets, in the order of their kinds.

    >>> names()[:3]
    ('encoder_decoder_post', 'encoder_decoder_pre', 'whisper')
    """
    return tuple(PRESETS)


def get(name: str) -> Preset:
    """The entry of a preset.

    Raises:
      ValueError: there is none of this name.

    >>> get("whisper").checked
    ('WhisperDecoderLayer', 'WhisperForCausalLM')
    """
    known("preset", name, names())
    return PRESETS[name]


def config(name: str) -> Any:
    """What a layer of a preset is made of.

    >>> config("flamingo").residual.gate
    'tanh'
    """
    return get(name).config


def table() -> Any:
    """All presets and what of each is not as by default, as text or, in a notebook, as a table.

    >>> print(str(table()).splitlines()[1][:53])
    encoder_decoder_post   block       self → cross → mlp
    """
    from crossattn.viewer.markup import Display, figure, html_table

    header = ["preset", "family", "sublayers", "not as by default", "paper"]
    rows = [_row(preset) for preset in PRESETS.values()]
    text = "\n".join(
        f"{name:22} {family:11} {order:46} {paper}"
        for name, family, order, _, paper in [header, *rows]
    )
    return Display(text, figure(f"{len(rows)} presets", html_table(header, rows)))


def _row(preset: Preset) -> list[str]:
    order = " → ".join(getattr(preset.config, "order", ("cross",)))
    fields = [one for one in changed_fields(preset.config) if not one.startswith("order=")]
    paper = preset.paper.replace("\xa0", " ")
    return [preset.name, preset.family, order, ", ".join(fields), paper]


def differences(one: str, other: str) -> Differences:
    """The fields in which two presets differ, as a list of lines; a notebook shows a table.

    Those of other modules begin with these.

    >>> differences("flamingo", "idefics")[:2]
    ["residual.norm_kind: 'layer' -> 'rms'", "mlp.activation: 'gelu' -> 'silu'"]
    """
    a, b = get(one), get(other)
    kinds = [type(build(name, width=8, heads=2)).__name__ for name in (one, other)]
    lines = [] if kinds[0] == kinds[1] else [f"module: {kinds[0]} -> {kinds[1]}"]
    return Differences([*lines, *config_differences(a.config, b.config)], one, other)


def build(
    name: str,
    *,
    width: int,
    heads: int,
    layers: int | None = None,
    remat: Remat = None,
    config: BlockConfig | TwoStreamConfig | None = None,
    **policy: Any,
) -> nn.Module:
    """The module of a preset.

    Args:
      name: of `names()`.
      width: M.
      heads: H.
      layers: of a scanned stack of the preset; one bare layer when None, and as many as were
        published for those that are stacks by themselves (qformer, coca_decoder, bottleneck).
      remat: what the backward pass of a stack computes again, see `Stack`.
      config: what a layer is made of, in place of the preset's own.
      **policy: `dtype`, `param_dtype`, `kernel_init`, `dropout`, `implementation` and `layout`, as
        those of `PolicyModule`; they reach all parts.

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
    preset = get(name)
    _check_sizes(width, heads, layers)
    policy_of(remat)
    if preset.family == "ip_adapter" and layers is not None:
        raise ValueError("ip_adapter is one attention, not a layer: leave layers out")
    if remat is not None and layers is None and "layers" not in preset.sizes:
        raise ValueError("remat: a field of stacks, give layers as well")
    sizes: dict[str, Any] = {**preset.sizes, "width": width, "heads": heads}
    if layers is not None or "layers" in sizes:
        sizes |= {"layers": layers or sizes["layers"], "remat": remat}
    return FAMILIES[preset.family](preset.config if config is None else config, sizes | policy)


def _block(config: BlockConfig, fields: dict[str, Any]) -> nn.Module:
    return (Stack if "layers" in fields else Block)(config=config, **fields)


def _streams(layer: type[nn.Module]) -> Callable[..., nn.Module]:
    def build(config: Any, fields: dict[str, Any]) -> nn.Module:
        depth = {name: fields.pop(name) for name in ("layers", "remat") if name in fields}
        one = layer(config=config, **fields)
        return StreamStack(one, **depth) if depth else one

    return build


def _coca(config: BlockConfig, fields: dict[str, Any]) -> nn.Module:
    lower = replace(config, order=tuple(one for one in config.order if one != "cross"))
    return CocaDecoder(lower=lower, upper=config, **fields)


FAMILIES: dict[str, Callable[..., nn.Module]] = {
    "block": _block,
    "two_stream": _streams(TwoStreams),
    "prefix": _streams(Prefix),
    "qformer": lambda config, fields: QFormer(config=config, **fields),
    "coca": _coca,
    "bottleneck": lambda config, fields: Bottleneck(config=config, **fields),
    "ip_adapter": lambda config, fields: DecoupledAttention(use_bias=config.use_bias, **fields),
}


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
