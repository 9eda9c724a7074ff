"""The layouts of towers: vision transformers, text encoders, and what joins them."""

from crossattn.interop.entries import (
    QKV,
    Entries,
    attention_entries,
    dense,
    fed,
    fused,
    latents,
    layer_norm,
    mlp,
    nested,
)
from crossattn.interop.table import BUFFERS, Entry, Layout

__all__ = ["TOWERS", "TOWER_CLASSES", "bert_words"]

# A convolution (M, C, y, x) is our kernel (y, x, C, M).
PATCH = ("M C y x", "y x C M")


def patches(theirs: str, *, bias: bool = True) -> Entries:
    """The map of patches."""
    weight = Entry(f"{theirs}.weight", ("patches/kernel",), *PATCH)
    return (weight, Entry(f"{theirs}.bias", ("patches/bias",), "M")) if bias else (weight,)


def clip_layer(theirs: str, ours: str) -> Entries:
    """A layer of CLIP and of SigLIP, of either tower."""
    own = attention_entries(
        "self_attn.", "self_attention", out="out_proj", biased="qkvo", widths="MM"
    )
    layer = (
        *layer_norm("layer_norm1", "self_residual/norm"),
        *own,
        *layer_norm("layer_norm2", "mlp_residual/norm"),
        *mlp("mlp.fc1", "mlp.fc2"),
    )
    return nested(theirs, ours, layer)


def clip_words(theirs: str = "embeddings.") -> Entries:
    """Embeddings of words and of their places."""
    return (
        Entry(f"{theirs}token_embedding.weight", ("words/embedding",), "W M"),
        Entry(f"{theirs}position_embedding.weight", ("places/embedding",), "P M"),
    )


def bert_words(theirs: str) -> Entries:
    """Those of BERT, with the norm behind them."""
    return (
        Entry(f"{theirs}word_embeddings.weight", ("words/embedding",), "W M"),
        Entry(f"{theirs}position_embeddings.weight", ("places/embedding",), "P M"),
        *layer_norm(f"{theirs}LayerNorm", "norm_first"),
    )


CLIP_LAYERS = clip_layer("encoder.layers.{i}.", "stack/blocks/")
CLIP_VISION = (
    Entry("embeddings.class_embedding", ("class_token",), "M"),
    *patches("embeddings.patch_embedding", bias=False),
    Entry("embeddings.position_embedding.weight", ("positions",), "P M"),
    *layer_norm("pre_layrnorm", "norm_first"),
    *CLIP_LAYERS,
    *layer_norm("post_layernorm", "norm"),
)
SIGLIP_HEAD = (
    *latents("probe", "1 T M"),
    *fused("attention.", "reader/cross_attention"),
    *layer_norm("layernorm", "reader/mlp_residual/norm"),
    *mlp("mlp.fc1", "mlp.fc2", "reader/mlp"),
)
SIGLIP_VISION = (
    *patches("embeddings.patch_embedding"),
    Entry("embeddings.position_embedding.weight", ("positions",), "P M"),
    *CLIP_LAYERS,
    *layer_norm("post_layernorm", "norm"),
)
BLIP_LAYER = (
    *layer_norm("layer_norm1", "self_residual/norm"),
    Entry(
        "self_attn.qkv.weight",
        tuple(f"self_attention/{name}/kernel" for name in QKV),
        "3Q.self M",
        "M Q.self",
    ),
    Entry("self_attn.qkv.bias", tuple(f"self_attention/{name}/bias" for name in QKV), "3Q.self"),
    *dense("self_attn.projection", "self_attention/out", "M O.self"),
    *layer_norm("layer_norm2", "mlp_residual/norm"),
    *mlp("mlp.fc1", "mlp.fc2"),
)
BLIP_VISION = (
    Entry("embeddings.class_embedding", ("class_token",), "1 1 M", "M"),
    *patches("embeddings.patch_embedding"),
    Entry("embeddings.position_embedding", ("positions",), "1 P M", "P M"),
    *nested("encoder.layers.{i}.", "stack/blocks/", BLIP_LAYER),
    *layer_norm("post_layernorm", "norm"),
)
VIT_LAYER = (
    *layer_norm("layernorm_before", "self_residual/norm"),
    *attention_entries(
        "attention.",
        "self_attention",
        names=("attention.query", "attention.key", "attention.value"),
        out="output.dense",
        biased="qkvo",
        widths="MM",
    ),
    *layer_norm("layernorm_after", "mlp_residual/norm"),
    *mlp("intermediate.dense", "output.dense"),
)
VIT = (
    Entry("embeddings.cls_token", ("class_token",), "1 1 M", "M"),
    *patches("embeddings.patch_embeddings.projection"),
    Entry("embeddings.position_embeddings", ("positions",), "1 P M", "P M"),
    *nested("encoder.layer.{i}.", "stack/blocks/", VIT_LAYER),
    *layer_norm("layernorm", "norm"),
)
# The head of masked training or of classes is not the tower's.
VIT_BUFFERS = (*BUFFERS, r"pooler\..*")
TEXT = (*clip_words(), *CLIP_LAYERS, *layer_norm("final_layer_norm", "norm"))
TEXT_SCOPES = ("embeddings.", "encoder.", "final_layer_norm.")
CLIP_PROJECTION = dense("visual_projection", "image_projection", "D M.image", bias=False)
CLIP = (
    *CLIP_PROJECTION,
    *dense("text_projection", "text_projection", "D M.text", bias=False),
    Entry("logit_scale", ("scale",), ""),
)
SIGLIP = (
    *dense("text_model.head", "text_projection", "D M.text"),
    Entry("logit_scale", ("scale",), "1", ""),
    Entry("logit_bias", ("bias",), "1", ""),
)
BLIP2 = (
    Entry("embeddings.word_embeddings.weight", ("words/embedding",), "W M"),
    Entry("embeddings.position_embeddings.weight", ("places/embedding",), "P M"),
    *dense("vision_projection", "image_projection", "D M"),
    *dense("text_projection", "text_projection", "D M"),
    *dense("itm_head", "match", "2 M"),
)
BLIP2_SCOPES = ("embeddings.", "vision_projection.", "text_projection.", "itm_head.")


def detr_layer(side: str, number: str, *, cross: bool) -> Entries:
    """A layer of DETR, with a letter of its side for the hidden width."""
    sites = {"self_attn": "self", "encoder_attn": "cross"} if cross else {"self_attn": "self"}
    entries: Entries = ()
    for theirs, ours in sites.items():
        names = f"{theirs}.", f"{ours}_attention"
        entries += attention_entries(*names, out="out_proj", biased="qkvo", widths="MM")
        entries += layer_norm(f"{theirs}_layer_norm", f"{ours}_residual/norm")
    entries += fed(mlp("fc1", "fc2"), f"F.{side}")
    entries += layer_norm("final_layer_norm", "mlp_residual/norm")
    return nested(f"model.{side}.layers.{{{number}}}.", f"{side}/blocks/", entries)


DETR = (
    Entry("model.query_position_embeddings.weight", ("queries",), "T M"),
    *patches("model.input_projection"),
    *detr_layer("encoder", "i", cross=False),
    *detr_layer("decoder", "d", cross=True),
    *layer_norm("model.decoder.layernorm", "norm"),
    *dense("class_labels_classifier", "class", "K M"),
    *dense("bbox_predictor.layers.0", "box0", "E M"),
    *dense("bbox_predictor.layers.1", "box1", "G E"),
    *dense("bbox_predictor.layers.2", "box2", "4 G"),
)
DETR_SCOPES = (
    *("model.query_position_embeddings.", "model.input_projection.", "model.encoder."),
    *("model.decoder.", "class_labels_classifier.", "bbox_predictor."),
)

TOWERS: dict[str, tuple[Layout, ...]] = {
    "vit": (Layout(VIT, buffers=VIT_BUFFERS, outer=""),),
    "clip_vision": (Layout(CLIP_VISION),),
    "siglip_vision": (
        Layout((*SIGLIP_VISION, *nested("head.", "head/", SIGLIP_HEAD))),
        Layout(SIGLIP_VISION),
    ),
    "blip_vision": (Layout(BLIP_VISION),),
    "clip_text": (Layout(TEXT, scopes=TEXT_SCOPES),),
    "siglip_text": (Layout(TEXT, scopes=TEXT_SCOPES),),
    "detr": (Layout(DETR, scopes=DETR_SCOPES),),
    "blip2": (Layout(BLIP2, scopes=BLIP2_SCOPES),),
    "clip_vision_projection": (Layout(CLIP_PROJECTION, scopes=("visual_projection.",)),),
    "clip": (Layout(CLIP, scopes=("visual_projection.", "text_projection.", "logit_")),),
    "siglip": (Layout(SIGLIP, scopes=("text_model.head.", "logit_")),),
}

TOWER_CLASSES: dict[str, str] = {
    "vit": "ViTModel",
    "clip_vision": "CLIPVisionModel",
    "siglip_vision": "SiglipVisionModel, with its head or without",
    "blip_vision": "BlipVisionModel, Blip2VisionModel",
    "clip_text": "CLIPTextModel",
    "siglip_text": "SiglipTextModel",
    "detr": "DetrForObjectDetection behind its backbone",
    "blip2": "Blip2ForImageTextRetrieval, its words, projections and head",
    "clip_vision_projection": "CLIPVisionModelWithProjection, its projection",
    "clip": "CLIPModel, its projections and its scale",
    "siglip": "SiglipModel, its projection, scale and bias",
}
