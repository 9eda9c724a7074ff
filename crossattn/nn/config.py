"""What attention, a layer and a block are made of: frozen values, each field written once.

A published design differs from its neighbour by the fields that differ here; see
`crossattn.nn.presets`.
"""

import dataclasses
from typing import Any, Literal

from crossattn import renamed
from crossattn.nn.choices import check_fields
from crossattn.nn.displays import Displayed, slots_html

__all__ = [
    "AttentionConfig",
    "BlockConfig",
    "ExtraKeys",
    "LinkKind",
    "Logits",
    "MLPConfig",
    "NormKind",
    "ResidualConfig",
    "Rotary",
    "TwoStreamConfig",
    "config_differences",
    "fields_of",
]

NormKind = Literal["layer", "rms", "rms+1"]
LinkKind = Literal["add", "scaled", "interpolated"]


class _Checked(Displayed):
    """Fields of another kind or out of range are refused in one line."""

    def _repr_html_(self) -> str:
        return slots_html(self)

    def __post_init__(self):
        check_fields(self)


@dataclasses.dataclass(frozen=True, repr=False)
class Logits(_Checked):
    """How a query meets a key.

    Attributes:
      scale: factor of the product; 1 / sqrt(D) when None, 1 in T5.
      softcap: bound of the logits (Gemma 2).
      norm: of each head's queries and keys, before any rotation (Llama 3.2, Gemma 3).
      epsilon: of that norm.
      competition: what the softmax runs over. "queries": slots compete for each key, and each then
        takes the mean of what it won (Locatello et al. 2020, "Slot Attention").
      talking: heads mix their logits and their weights (Shazeer et al. 2020, "Talking-Heads
        Attention"); H times the arithmetic.
    """

    scale: float | None = None
    softcap: float | None = None
    norm: NormKind | None = None
    epsilon: float = 1e-6
    competition: Literal["keys", "queries"] = "keys"
    talking: bool = False


@dataclasses.dataclass(frozen=True, repr=False)
class ExtraKeys(_Checked):
    """Keys that are there whatever the context is, so that a head can attend to nothing.

    Attributes:
      bias_kv: a learned key with a learned value (Imagen; `add_bias_kv` of torch).
      zero_attn: a key and value of zeros (`add_zero_attn` of torch; softmax off by one).
      sink: a learned logit with value 0 (gpt-oss).
      registers: number of further learned keys with learned values, to keep things in (Darcet et
        al. 2024, "Vision Transformers Need Registers"; Sukhbaatar et al. 2019, who call them
        persistent memory).
    """

    bias_kv: bool = False
    zero_attn: bool = False
    sink: bool = False
    registers: int = 0

    @property
    def have_values(self) -> bool:
        """Whether there is always something to read besides the context."""
        return self.bias_kv or self.registers > 0


@renamed.arguments(longest="theta", neighbours="interleaved")
@dataclasses.dataclass(frozen=True, repr=False)
class Rotary(_Checked):
    """Rotations by coordinates, see `crossattn.ops.positions.rotate`.

    Attributes:
      theta: base of the wavelengths.
      interleaved: whether neighbouring features make a pair, instead of one of each half.
    """

    theta: float = 10_000.0
    interleaved: bool = False


@dataclasses.dataclass(frozen=True, repr=False)
class AttentionConfig(_Checked):
    """The fields of a `CrossAttention` but for its sizes; they are described there."""

    key_value_heads: int | None = None
    head_size: int | None = None
    value_size: int | None = None
    use_bias: bool | str = True
    logits: Logits = Logits()
    extra_keys: ExtraKeys = ExtraKeys()
    positions: Literal["rotary", "add"] | None = None
    rotary: Rotary = Rotary()
    head_gate: bool = False


@dataclasses.dataclass(frozen=True, repr=False)
class MLPConfig(_Checked):
    """Two dense layers with an activation between them.

    Attributes:
      expansion: hidden width in units of M.
      activation: "gelu-tanh" and "gelu-quick", x sigmoid(1.702 x) (CLIP), approximate "gelu".
      gated: the activation of one map times another map (Shazeer 2020, "GLU variants").
      use_bias: of all maps.
    """

    expansion: float | int = 4
    activation: Literal["gelu", "gelu-tanh", "gelu-quick", "relu", "silu"] = "gelu-tanh"
    gated: bool = False
    use_bias: bool = True


@dataclasses.dataclass(frozen=True, repr=False)
class ResidualConfig(_Checked):
    """How a sublayer f is joined to its stream x.

    Attributes:
      norm: where the norm N stands. "pre": x + g f(N x); "post": N(x + g f(x)); "sandwich":
        x + g N'(f(N x)); "none": x + g f(x).
      norm_kind: of mean and variance, of the mean square, or that with scale 1 + w.
      epsilon: of the norm.
      gate: g in x + g f(x). "tanh": of one learned number, "tanh-each": of one for each feature,
        both 0 at the start (Flamingo); "tanh-0.1": as "tanh", but 0.1 at the start; "sigmoid": of
        one number; "layer-scale": a learned factor for each feature, 1e-4 at the start (CaiT);
        None: 1.
      skip: whether x is added at all.
    """

    norm: Literal["pre", "post", "sandwich", "none"] = "pre"
    norm_kind: NormKind = "layer"
    epsilon: float = 1e-6
    gate: Literal["tanh", "tanh-each", "tanh-0.1", "sigmoid", "layer-scale"] | None = None
    skip: bool = True


@dataclasses.dataclass(frozen=True, repr=False)
class BlockConfig(_Checked):
    """What a `Block` is made of.

    Attributes:
      order: its sublayers: attention among the queries, to the context, to both under one softmax
        and with the same weights ("merged"), and the MLP.
      residual: how a sublayer is joined to its stream.
      cross_residual: the same for attention to the context; as `residual` when None.
      self_attention: of the queries among themselves.
      cross_attention: of the queries to the context.
      mlp: the MLP.
      context_norm: kind of the norm of the context, with the epsilon of `residual`.
      project_context: the context is mapped to width M first.
      concat_queries: the queries, normed as the context is, stand beside the context.
      skip_mlp_without_context: queries that see no context skip the MLP as well.
    """

    order: tuple[Literal["self", "cross", "merged", "mlp"], ...] = ("self", "cross", "mlp")
    residual: ResidualConfig = ResidualConfig()
    cross_residual: ResidualConfig | None = None
    self_attention: AttentionConfig = AttentionConfig()
    cross_attention: AttentionConfig = AttentionConfig()
    mlp: MLPConfig = MLPConfig()
    context_norm: NormKind | None = None
    project_context: bool = False
    concat_queries: bool = False
    skip_mlp_without_context: bool = False

    @property
    def reads(self) -> bool:
        """Whether there is attention to the context."""
        return "cross" in self.order or "merged" in self.order


@dataclasses.dataclass(frozen=True, repr=False)
class TwoStreamConfig(_Checked):
    """What a `TwoStreams` layer is made of.

    Attributes:
      order: its sublayers. "cross": each stream reads the other as it was before that read itself,
        if it has (under "one-product": as it is); "x_to_context": x reads the context;
        "context_to_x": the context reads x; "self", "mlp": each by itself;
        "norm": each is replaced by its norm; "link": each is joined by the state of a tower.
      residual: how a sublayer is joined to its stream.
      self_residual: the same for attention within a stream; as `residual` when None.
      cross_residual: the same for attention to the other stream.
      exchange: weights of the two directions. "separate"; "shared": the same, with the same norm;
        "one-product": the logits of one direction are those of the other transposed.
      inner: H D of the exchange, in units of the stream's width.
      siamese: both streams have the same weights, those of the exchange as well (LightGlue).
      joint_mlp: what a stream has read and the stream itself, side by side, go through this MLP,
        whose hidden units are normed, before its result is added; None: what was read is added.
      one_sided: sublayers that x alone has.
      link: how the state of a tower is joined to a stream, see `Link`.
      self_attention: of a stream to itself.
      cross_attention: of a stream to the other.
      mlp: the MLPs.
    """

    order: tuple[
        Literal["link", "norm", "self", "cross", "x_to_context", "context_to_x", "mlp"], ...
    ] = ("self", "cross", "mlp")
    residual: ResidualConfig = ResidualConfig()
    self_residual: ResidualConfig | None = None
    cross_residual: ResidualConfig | None = None
    exchange: Literal["separate", "shared", "one-product"] = "separate"
    inner: float = 1.0
    siamese: bool = False
    joint_mlp: MLPConfig | None = None
    one_sided: tuple[Literal["self", "mlp"], ...] = ()
    link: LinkKind = "add"
    self_attention: AttentionConfig = AttentionConfig()
    cross_attention: AttentionConfig = AttentionConfig()
    mlp: MLPConfig = MLPConfig()


def fields_of(config: Any) -> dict[str, Any]:
    """The fields of a configuration by name, as arguments of the module that has the same ones."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def config_differences(one: Any, other: Any, *, of: str = "") -> list[str]:
    """The fields in which two configurations differ, one line each.

    >>> config_differences(
    ...     BlockConfig(), BlockConfig(residual=ResidualConfig(norm="post"), concat_queries=True))
    ["residual.norm: 'pre' -> 'post'", 'concat_queries: False -> True']
    """
    if one == other:
        return []
    if not (dataclasses.is_dataclass(one) and dataclasses.is_dataclass(other)):
        return [f"{of}: {one!r} -> {other!r}"]
    a, b, prefix = fields_of(one), fields_of(other), f"{of}." if of else ""
    pairs = ((prefix + name, a.get(name), b.get(name)) for name in dict.fromkeys([*a, *b]))
    return [line for name, x, y in pairs for line in config_differences(x, y, of=name)]
