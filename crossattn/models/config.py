"""What a `VisionLanguageDecoder` is made of: plain values, each written once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from crossattn.fields import positive, settle
from crossattn.nn import presets
from crossattn.nn.config import AttentionConfig, BlockConfig, TwoStreamConfig
from crossattn.nn.layers.patch_encoder import ImageEncoder

__all__ = ["Modality", "VisionLanguageConfig"]

Modality = Literal["image", "boxes"]
ContextView = Literal["tokens", "mean", "none", "truth"]
# Views of which the only key is a pooled vector, or none: there are no patches to look at.
POOLED = ("none", "mean")


@dataclasses.dataclass(frozen=True)
class VisionLanguageConfig:
    """The decoder and how it is joined to the image."""

    preset: str = "encoder_decoder_pre"
    """Published design of the layers, see docs/presets.md; a change of it resets block."""
    block: BlockConfig | TwoStreamConfig | AttentionConfig = None  # type: ignore[assignment]
    """What each layer is made of; that of the preset unless fields of it are changed."""
    text_preset: str = ""
    """Published design of the layers that read the text alone between those that read the context,
    like whisper, which are then without their own context; plain ones when empty."""
    context_view: ContextView = "tokens"
    """What words may read of the image: its tokens; their mean; none; truth: at each position the
    region of the word that it predicts, an upper bound that is told the alignment."""
    connector: str = ""
    """Preset that stands between image and decoder and makes so many latents of it, like
    perceiver_encode; none when empty."""
    latents: int = 16
    """Tokens that a connector makes of an image, or that a bottleneck passes on."""
    cross_every: int = 1
    """One in so many layers reads the context, the others the text alone."""
    cross_at: int = 0
    """Which of every cross_every layers it is: 0 is the first (decoders without layers of a
    text_preset)."""
    image_encoder: ImageEncoder = "oracle"
    """What the model perceives of an image: symbolic patches, what another encoder made of it,
    spectra of sound, or pixels in three ways."""
    coordinates: bool = False
    """Whether x and y of a patch stand among its features, beside its learned position."""
    encoder_layers: int = 0
    """Layers in which the tokens of an image read each other before words read them."""
    rotary_axes: int = 1
    """Axes of rotary positions: words and tokens on one line, or rows and columns of a square image
    before words that are as far along both (M-RoPE: Wang et al. 2024, "Qwen2-VL")."""
    contexts: tuple[Modality, ...] = ("image",)
    """Modalities beside the text: the image, the boxes of its objects (scenes only), or both."""
    width: int = 64
    """M, width of all streams."""
    layers: int = 2
    """L, number of layers."""
    heads: int = 4
    """H, heads of each attention."""
    embedding: int = 0
    """D, features of images and texts that retrieval compares: of texts that have not read the
    image (context_view none, or coca_decoder); 0 has none."""
    dropout: float = 0.0
    """Share of attention weights, sublayer outputs and hidden units dropped while training."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """In which all is computed; parameters stay in float32."""
    remat: Literal["", "everything", "all but attention", "all but products"] = ""
    """What the backward pass computes again instead of keeping it; nothing when empty."""
    implementation: str = ""
    """Kernel of all attention, as that of `attend`; chosen when empty."""

    def __post_init__(self):
        object.__setattr__(self, "block", _block(self.preset, self.block))
        settle(self, "model.")
        counts = {"latents": self.latents, "cross_every": self.cross_every}
        positive("model.", width=self.width, layers=self.layers, heads=self.heads, **counts)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout is a share in [0, 1), got {self.dropout}")
        if not self.contexts or len(set(self.contexts)) < len(self.contexts):
            raise ValueError(
                f"model.contexts are one or more different modalities, got {self.contexts}"
            )
        if self.use == "adapter" and len(self.contexts) < 2:
            raise ValueError(
                f"{self.preset} reads two contexts: set model.contexts to image and boxes"
            )
        if self.width % self.heads:
            raise ValueError(f"model.width {self.width} is not a multiple of heads {self.heads}")
        if self.encoder_layers < 0:
            raise ValueError(f"model.encoder_layers cannot be negative, got {self.encoder_layers}")
        self._check_rotary_axes()
        self._check_text_preset()
        self._check_connector()
        self._check_view()
        self._check_depth()
        self._check_embedding()

    def implied(self, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Fields that follow from new values of others: another preset has another block."""
        return {"block": presets.config(changes["preset"])} if "preset" in changes else {}

    @property
    def use(self) -> str:
        """How the layers are joined to the image: see `Preset.use`."""
        return presets.get(self.preset).use

    @property
    def reading_layers(self) -> int:
        """How many layers read the context: the leading axis of visibility and observations."""
        if self.use == "bottleneck":
            return self.layers - 1
        if self.unimodal_half:
            return self.layers - self.layers // 2
        return self.layers // self.cross_every

    @property
    def unimodal_half(self) -> bool:
        """Whether the lower half of the layers reads the text alone."""
        return presets.get(self.preset).family == "coca"

    @property
    def text_layers(self) -> int:
        """How many layers read the text before it is compared with images."""
        return self.layers - self.reading_layers if self.unimodal_half else self.layers

    @property
    def attends(self) -> bool:
        """Whether words look at patches, each by itself."""
        return self.context_view not in POOLED

    @property
    def text_block(self) -> BlockConfig:
        """Of the layers that read the text alone, where they stand between others."""
        own = self.block
        assert isinstance(own, BlockConfig)
        expanded = lambda mlp: dataclasses.replace(mlp, expansion=own.mlp.expansion)
        if not self.text_preset:
            plain = dataclasses.replace(presets.TEXT, self_attention=own.self_attention)
            return dataclasses.replace(plain, mlp=expanded(plain.mlp))
        text = presets.config(self.text_preset)
        order = tuple(part for part in text.order if part != "cross")
        return dataclasses.replace(text, order=order, mlp=expanded(text.mlp))

    def _check_rotary_axes(self) -> None:
        if self.rotary_axes == 1:
            return
        if self.rotary_axes != 2:
            raise ValueError(
                f"model.rotary_axes is 1, a line, or 2, a grid, got {self.rotary_axes}"
            )
        attentions = ("self_attention", "cross_attention")
        kinds = {getattr(getattr(self.block, name, None), "positions", None) for name in attentions}
        if "rotary" not in kinds:
            raise ValueError(
                "model.rotary_axes 2 is for rotary positions: set "
                "model.block.cross_attention.positions to rotary"
            )
        one_grid = self.contexts == ("image",) and self.image_encoder != "frames"
        joined = self.use in ("decoder", "interleaved", "two_stream", "prefix")
        if not one_grid or not joined or self.connector or not self.attends:
            raise ValueError(
                "model.rotary_axes 2 is for words that read the patches of an image themselves: "
                "without boxes, sound, a connector, or a pooled view"
            )

    def _check_text_preset(self) -> None:
        if not self.text_preset:
            return
        order = getattr(presets.config(self.text_preset), "order", ())
        if self.use != "interleaved" or "self" not in order or "merged" in order:
            raise ValueError(
                f"model.text_preset {self.text_preset} is a decoder like whisper between the "
                f"layers of a preset like flamingo, not of {self.preset}"
            )

    def _check_connector(self) -> None:
        if not self.connector:
            return
        if presets.get(self.connector).use != "connector":
            known = [name for name in presets.names() if presets.get(name).use == "connector"]
            raise ValueError(
                f"model.connector {self.connector} makes no latents of an image: choose one of "
                f"{', '.join(known)}"
            )
        if self.use != "decoder":
            raise ValueError(
                f"model.connector stands before a decoder like encoder_decoder_pre, not before "
                f"{self.preset}, which is of use {self.use}"
            )

    def _check_view(self) -> None:
        if self.context_view in ("tokens", "none"):
            return
        direct = self.use == "decoder" and not self.connector
        if not direct and not (self.context_view == "truth" and self.use == "interleaved"):
            raise ValueError(
                f"model.context_view {self.context_view} is for words that read the context itself "
                f"(encoder_decoder_pre and the like), not for {self.connector or self.preset}"
            )

    def _check_depth(self) -> None:
        if self.cross_every > 1 and self.use not in ("decoder", "interleaved"):
            raise ValueError(
                f"model.cross_every is for decoders, {self.preset} reads the context in every "
                "layer: leave it at 1"
            )
        if not 0 <= self.cross_at < self.cross_every or (self.cross_at and self.use != "decoder"):
            raise ValueError(
                f"model.cross_at {self.cross_at} is the place of a decoder's layer among "
                f"{self.cross_every} (cross_every), from 0 on; {self.preset} is of use {self.use}"
            )
        if self.layers % self.cross_every:
            raise ValueError(
                f"model.layers {self.layers} is not a multiple of cross_every {self.cross_every}"
            )
        if self.use == "bottleneck" and self.layers < 2:
            raise ValueError(
                f"{self.preset} needs model.layers of at least 2: its tokens carry in one layer "
                "what words read in the next"
            )

    def _check_embedding(self) -> None:
        if self.embedding < 0:
            raise ValueError(f"model.embedding cannot be negative, got {self.embedding}")
        if self.embedding and self.context_view != "none" and not self.unimodal_half:
            raise ValueError(
                f"model.embedding compares images with texts that have not read them, and words of "
                f"{self.preset} read the image in all layers: set model.context_view none, or "
                "model.preset coca_decoder"
            )


def _block(preset: str, block: Any) -> Any:
    """The block of a model of a preset, of what is given: nothing, a dict, or a configuration."""
    own = presets.config(preset)
    if block is None or own is None:
        return own
    if not isinstance(block, type(own)):
        raise ValueError(
            f"model.block of preset {preset} is a {type(own).__name__}, got a "
            f"{type(block).__name__}: change model.preset as well"
        )
    return block
