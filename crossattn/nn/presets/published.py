"""The published designs, one entry each: its neighbour with a few fields changed.

An entry says which family of modules it is, what it is made of, whose it is, and which foreign
class it is compared with (`tests/nn/test_presets_against_peers.py`) or, without one, of which
compared presets it is composed (`tests/nn/test_preset_registry.py`).
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from crossattn.nn.config import (
    AttentionConfig,
    BlockConfig,
    ExtraKeys,
    Logits,
    MLPConfig,
    ResidualConfig,
    Rotary,
    TwoStreamConfig,
)
from crossattn.nn.displays import slots_html

__all__ = ["PUBLISHED", "TEXT", "Composed", "Preset"]


@dataclasses.dataclass(frozen=True)
class Composed:
    """Of which presets one is composed.

    Attributes:
      of: their names. Each field of the configuration has the value that it has in one of them.
      but: fields with a value of their own, such as "cross_attention.use_bias".
      note: what that is, in words.
    """

    of: tuple[str, ...]
    but: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return (
            f"composed of what is checked in {' and '.join(self.of)}{self.note and ', '}{self.note}"
        )


@dataclasses.dataclass(frozen=True, repr=False)
class Preset:
    """A published design.

    Attributes:
      name: its own.
      family: which module it is.
      config: what a layer of it is made of.
      paper: authors, year, name, number.
      checked: the foreign classes with which it is compared: library and class.
      composed: of what it is, where no class is compared.
      use: how a model of images and text uses it. "decoder": words read the image in every layer;
        "interleaved": its blocks stand among blocks that read text; "connector": learned queries
        read the image, a decoder reads them; "adapter": one attention to a text and a picture.
      sizes: fields of the module that the publication gives, such as its number of layers.
    """

    name: str
    family: Literal["block", "two_stream", "prefix", "qformer", "coca", "bottleneck", "ip_adapter"]
    config: BlockConfig | TwoStreamConfig | AttentionConfig
    paper: str = ""
    checked: tuple[str, ...] = ()
    composed: Composed | None = None
    use: Literal[
        "decoder", "interleaved", "connector", "two_stream", "prefix", "bottleneck", "adapter"
    ] = "decoder"
    sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<preset {self.name}: {self.family}; {self.paper}>"

    def _repr_html_(self) -> str:
        checked = f"checked against {', '.join(self.checked)}" if self.checked else self.composed
        note = f"{self.paper}; {checked}"
        return slots_html(self.config, f"{self.name} ({self.family}, used as {self.use})", note)


POST_NORM = ResidualConfig(norm="post", epsilon=1e-12)
PRE_NORM = ResidualConfig(epsilon=1e-5)
NO_RESIDUAL = ResidualConfig(norm="none", skip=False)
NO_SKIP = replace(PRE_NORM, skip=False)
NO_BIAS = AttentionConfig(use_bias=False)
NO_KEY_BIAS = AttentionConfig(use_bias="qvo")
UNSCALED = AttentionConfig(use_bias=False, logits=Logits(scale=1.0))
CAPPED = AttentionConfig(use_bias=False, logits=Logits(softcap=50.0))
ADDED = AttentionConfig(positions="add")
GELU = MLPConfig(activation="gelu")
BARE_GELU = MLPConfig(activation="gelu", use_bias=False)
RELU = MLPConfig(activation="relu", use_bias=False)
GATED_GELU = MLPConfig(activation="gelu-tanh", gated=True, use_bias=False)
GATED_SILU = MLPConfig(activation="silu", gated=True, use_bias=False)

PRE = BlockConfig(residual=PRE_NORM, mlp=GELU)
TEXT = replace(PRE, order=("self", "mlp"))  # a layer of text alone
T5 = BlockConfig(
    residual=ResidualConfig(norm_kind="rms"),
    self_attention=UNSCALED,
    cross_attention=UNSCALED,
    mlp=RELU,
)
T5GEMMA = BlockConfig(
    residual=ResidualConfig(norm="sandwich", norm_kind="rms+1"),
    self_attention=replace(CAPPED, positions="rotary"),
    cross_attention=CAPPED,
    mlp=GATED_GELU,
)
QUERY_KEY_NORM = AttentionConfig(use_bias=False, logits=Logits(norm="rms+1"), positions="rotary")
FLAMINGO = BlockConfig(
    order=("cross", "mlp"),
    residual=ResidualConfig(gate="tanh"),
    cross_attention=NO_BIAS,
    mlp=BARE_GELU,
)
IDEFICS = replace(FLAMINGO, residual=ResidualConfig(norm_kind="rms", gate="tanh"), mlp=GATED_SILU)
MLLAMA = replace(
    IDEFICS,
    residual=replace(IDEFICS.residual, epsilon=1e-5),
    cross_attention=AttentionConfig(use_bias=False, logits=Logits(norm="rms", epsilon=1e-5)),
    skip_mlp_without_context=True,
)
PERCEIVER = replace(PRE, order=("cross", "mlp"), context_norm="layer")
RESAMPLER = replace(PERCEIVER, cross_attention=NO_BIAS, mlp=RELU, concat_queries=True)
POOLER = replace(PERCEIVER, order=("cross",), cross_residual=NO_SKIP)
READ_ALONE = replace(POOLER, cross_residual=NO_RESIDUAL, context_norm=None)

VILBERT = TwoStreamConfig(order=("cross", "mlp", "self", "mlp"), residual=POST_NORM, mlp=GELU)
METER = replace(VILBERT, order=("self", "cross", "mlp"), residual=replace(POST_NORM, epsilon=1e-5))
SAM = TwoStreamConfig(
    order=("self", "x_to_context", "mlp", "context_to_x"),
    residual=ResidualConfig(norm="post"),
    inner=0.5,
    one_sided=("self", "mlp"),
    self_attention=ADDED,
    cross_attention=ADDED,
    mlp=MLPConfig(activation="relu", expansion=8.0),
)


ROTATED = AttentionConfig(positions="rotary", rotary=Rotary(interleaved=True))
MERGED = replace(T5GEMMA, self_attention=AttentionConfig(), cross_attention=QUERY_KEY_NORM)
MASKED = replace(RESAMPLER, residual=ResidualConfig(norm_kind="rms"), context_norm="rms")
GLIP = TwoStreamConfig(
    order=("norm", "cross"),
    residual=ResidualConfig(norm="none", epsilon=1e-5, gate="layer-scale"),
    exchange="one-product",
    inner=4.0,
)


def _reading(cross: AttentionConfig, **other: Any) -> BlockConfig:
    return replace(PRE, cross_attention=cross, **other)


def _with_keys(**extra: Any) -> BlockConfig:
    return _reading(AttentionConfig(extra_keys=ExtraKeys(**extra)))


# What is "connector" or "two_stream" by `use`.
CONNECTOR: dict[str, Any] = {"family": "block", "use": "connector"}
STREAMS: dict[str, Any] = {"family": "two_stream", "use": "two_stream"}
FLAMINGO_PAPER = "Alayrac et al. 2022, Flamingo, arXiv:2204.14198"
COCA_PAPER = "Yu et al. 2022, CoCa, arXiv:2205.01917"
SAM_PAPER = "Kirillov et al. 2023, Segment Anything, arXiv:2304.02643"
PERCEIVER_PAPER = "Jaegle et al. 2022, Perceiver IO, arXiv:2107.14795"
IDEFICS_PAPER = f"{FLAMINGO_PAPER}; Laurencon et al. 2023, arXiv:2306.16527"
GLIP_PAPER = (
    "Liu et al. 2023, Grounding DINO, arXiv:2303.05499; Li et al. 2022, GLIP, arXiv:2112.03857"
)
BLIP_CLASSES = ("BlipTextLMHeadModel", "BlipTextLayer", "BridgeTowerBertCrossLayer")
BIASES = ("self_attention.use_bias", "cross_attention.use_bias")

# fmt: off
PUBLISHED = (
    Preset("encoder_decoder_post", "block", replace(PRE, residual=POST_NORM),
           "Li et al. 2022, BLIP, arXiv:2201.12086", BLIP_CLASSES),
    Preset("encoder_decoder_pre", "block", PRE, "Xiong et al. 2020, Pre-LN, arXiv:2002.04745",
           composed=Composed(("whisper",), BIASES, "with a bias of the keys")),
    Preset("whisper", "block", _reading(NO_KEY_BIAS, self_attention=NO_KEY_BIAS),
           "Radford et al. 2022, Whisper, arXiv:2212.04356",
           ("WhisperDecoderLayer", "WhisperForCausalLM")),
    Preset("t5", "block", T5, "Raffel et al. 2020, T5, arXiv:1910.10683",
           ("T5LayerCrossAttention",)),
    Preset("t5gemma", "block", T5GEMMA, "Zhang et al. 2025, T5Gemma, arXiv:2504.06225",
           ("T5GemmaCrossAttention", "T5GemmaDecoderLayer")),
    Preset("merged", "block", replace(MERGED, order=("merged", "mlp")),
           "Zhang et al. 2025, T5Gemma 2, arXiv:2512.14856", ("T5Gemma2MergedAttention",)),
    Preset("vilbert", config=VILBERT, paper="Lu et al. 2019, ViLBERT, arXiv:1908.02265", **STREAMS,
           composed=Composed(("lxmert", "meter"), ("order",), "in an order of its own")),
    Preset("lxmert", config=replace(VILBERT, order=("cross", "self", "mlp"), exchange="shared"),
           paper="Tan and Bansal 2019, LXMERT, arXiv:1908.07490", checked=("LxmertXLayer",),
           **STREAMS),
    Preset("meter", config=METER, paper="Dou et al. 2022, METER, arXiv:2111.02387",
           checked=("BridgeTowerBertCrossLayer",), **STREAMS),
    Preset("bridgetower", config=replace(METER, order=("link", "self", "cross", "mlp")),
           paper="Xu et al. 2023, BridgeTower, arXiv:2206.08657",
           checked=("BridgeTowerLinkTower", "BridgeTowerModel"), **STREAMS),
    Preset("flamingo", "block", FLAMINGO, FLAMINGO_PAPER, use="interleaved",
           composed=Composed(("idefics", "perceiver_encode"),
                             note="whose norm and activation it has")),
    Preset("idefics", "block", IDEFICS, IDEFICS_PAPER, ("IdeficsGatedCrossAttentionLayer",),
           use="interleaved"),
    Preset("mllama", "block", MLLAMA, "Grattafiori et al. 2024, Llama 3, arXiv:2407.21783",
           ("MllamaCrossAttentionDecoderLayer",), use="interleaved"),
    Preset("perceiver_encode", config=PERCEIVER, paper=PERCEIVER_PAPER,
           checked=("PerceiverEncoder", "PerceiverLayer"), **CONNECTOR),
    Preset("perceiver_decode", config=replace(PERCEIVER, cross_residual=NO_SKIP),
           paper=PERCEIVER_PAPER, checked=("PerceiverLayer",), **CONNECTOR),
    Preset("resampler", config=RESAMPLER, paper=FLAMINGO_PAPER,
           checked=("IdeficsPerceiverResampler",), **CONNECTOR),
    Preset("resampler_masked", config=replace(MASKED, mlp=GATED_SILU),
           paper="Laurencon et al. 2024, Idefics2, arXiv:2405.02246",
           checked=("Idefics2PerceiverResampler",), **CONNECTOR),
    Preset("qformer", "qformer", replace(PRE, residual=POST_NORM),
           "Li et al. 2023, BLIP-2, arXiv:2301.12597", ("Blip2QFormerModel",), use="connector",
           sizes={"layers": 12, "queries": 32}),
    Preset("coca_pooler", config=POOLER, paper=COCA_PAPER, checked=("AttentionalPooler",),
           **CONNECTOR),
    Preset("coca_decoder", "coca", PRE, COCA_PAPER, composed=Composed(("encoder_decoder_pre",)),
           sizes={"layers": 12}),
    Preset("map_head", config=BlockConfig(order=("cross", "mlp"), cross_residual=NO_RESIDUAL),
           paper="Zhai et al. 2023, SigLIP, arXiv:2303.15343",
           checked=("SiglipMultiheadAttentionPoolingHead",), **CONNECTOR),
    Preset("ip_adapter", "ip_adapter", AttentionConfig(use_bias="o"),
           "Ye et al. 2023, IP-Adapter, arXiv:2308.06721", ("Attention",), use="adapter",
           sizes={"pictures": 1}),
    Preset("bidirectional", config=GLIP, paper=GLIP_PAPER, checked=("GroundingDinoFusionLayer",),
           **STREAMS),
    Preset("sam_two_way", config=SAM, paper=SAM_PAPER, checked=("SamTwoWayAttentionBlock",),
           **STREAMS),
    Preset("sam_two_way_first", paper=SAM_PAPER, checked=("SamTwoWayAttentionBlock",), **STREAMS,
           config=replace(SAM, self_residual=replace(SAM.residual, skip=False),
                          self_attention=AttentionConfig())),
    Preset("axial_rope", config=replace(READ_ALONE, cross_attention=ROTATED),
           paper="Ravi et al. 2024, SAM 2, arXiv:2408.00714", checked=("Sam2VideoRoPEAttention",),
           **CONNECTOR),
    Preset("bottleneck", "bottleneck", TwoStreamConfig(order=("self", "mlp"), mlp=GELU),
           "Nagrani et al. 2021, MBT, arXiv:2107.00135", use="bottleneck",
           composed=Composed(("meter", "prefix_lm", "map_head"), note="each stream by itself"),
           sizes={"layers": 4, "tokens": 4}),
    Preset("prefix_lm", "prefix", replace(TEXT, residual=POST_NORM),
           "Wang et al. 2022, GIT, arXiv:2205.14100", ("GitLayer",), use="prefix"),
    Preset("cappa", "block", _reading(NO_BIAS, self_attention=NO_BIAS, mlp=BARE_GELU),
           "Tschannen et al. 2023, CapPa, arXiv:2306.07915", ("TransformerDecoderLayer",)),
    Preset("latent_projector", paper="Peng et al. 2023, Kosmos-2, arXiv:2306.14824",
           config=replace(READ_ALONE, project_context=True, concat_queries=True),
           checked=("Kosmos2ImageToTextProjection",), **CONNECTOR),
    Preset("null_key", "block", _with_keys(bias_kv=True),
           "torch.nn.MultiheadAttention(add_bias_kv, add_zero_attn)", ("MultiheadAttention",)),
    Preset("zero_key", "block", _with_keys(zero_attn=True),
           "torch.nn.MultiheadAttention(add_zero_attn)",
           composed=Composed(("encoder_decoder_pre", "null_key"),
                             ("cross_attention.extra_keys.zero_attn",), "whose class has both")),
    Preset("sinks", "block", _with_keys(sink=True), "OpenAI 2025, gpt-oss, arXiv:2508.10925",
           ("eager_attention_forward",)),
    Preset("registers", "block", _with_keys(registers=4),
           "Darcet et al. 2024, Registers, arXiv:2309.16588",
           composed=Composed(("encoder_decoder_pre", "null_key"),
                             ("cross_attention.extra_keys.registers",), "several of its keys")),
)
# fmt: on
