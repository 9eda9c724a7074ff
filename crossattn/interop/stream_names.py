"""The layouts of designs with two streams (x is the text, the context the image), and the like."""

from crossattn.interop.entries import (
    Entries,
    attention_entries,
    bert,
    bert_mlp,
    dense,
    layer_norm,
    mlp,
    nested,
)
from crossattn.interop.table import Entry, Layout

__all__ = ["STREAMS", "STREAM_CLASSES"]


def lxmert() -> Entries:
    """Both directions read with one set of weights; each stream has its own of everything else."""
    entries = bert("visual_attention.", "x/cross_attention", "x/cross_residual/norm", inner="att")
    for theirs, ours in (("lang", "x"), ("visn", "context")):
        entries += bert(
            f"{theirs}_self_att.", f"{ours}/self_attention", f"{ours}/self_residual/norm"
        )
        fed = f"{ours}/mlp_residual_0/norm", f"{ours}/mlp_0"
        entries += bert_mlp(f"{theirs}_inter", f"{theirs}_output", *fed)
    return entries


STREAM = (
    *bert("attention.", "self_attention", "self_residual/norm"),
    *bert("crossattention.", "cross_attention", "cross_residual/norm"),
    *bert_mlp("intermediate", "output", "mlp_residual_0/norm", "mlp_0"),
)


def fusion(number: str, ours: str) -> Entries:
    """Layers of METER and BridgeTower."""
    text = nested(f"cross_modal_text_layers.{number}.", f"{ours}x/", STREAM)
    return text + nested(f"cross_modal_image_layers.{number}.", f"{ours}context/", STREAM)


def bridgetower(factor: str | None) -> Entries:
    """A first layer, then those whose streams are joined by the towers first."""
    entries = fusion("0", "first/") + fusion("{1+i}", "blocks/")
    for theirs, ours in (("text", "x"), ("image", "context")):
        link = layer_norm("LayerNorm", "norm")
        if factor is not None:
            link += (Entry(factor, ("factor",), ""),)
        entries += nested(f"cross_modal_{theirs}_link_tower.{{j}}.", f"blocks/{ours}/link/", link)
    return entries


# A whole checkpoint has its towers beside them.
FUSED = ("cross_modal_text_layers.", "cross_modal_image_layers.")
LINKED = (*FUSED, "cross_modal_text_link_tower.", "cross_modal_image_link_tower.")
BIDIRECTIONAL = (
    *layer_norm("layer_norm_text", "x/norm"),
    *layer_norm("layer_norm_vision", "context/norm", width="N"),
    *dense("attn.text_proj", "exchange/reference", "Q M"),
    *dense("attn.vision_proj", "exchange/context_reference", "Q N"),
    *dense("attn.values_text_proj", "exchange/value", "Q M"),
    *dense("attn.values_vision_proj", "exchange/context_value", "Q N"),
    *dense("attn.out_text_proj", "exchange/out", "M Q"),
    *dense("attn.out_vision_proj", "exchange/context_out", "N Q"),
    Entry("text_param", ("x/cross_residual/gate",), "M"),
    Entry("vision_param", ("context/cross_residual/gate",), "N"),
)


def sam(theirs: str, ours: str, joined: str) -> Entries:
    """One of its three attentions, with the norm behind it."""
    maps = attention_entries(theirs, ours, out="out_proj", biased="qkvo", widths="MM")
    return maps + layer_norm(joined, f"{ours.replace('attention', 'residual')}/norm")


SAM = (
    *sam("self_attn.", "x/self_attention", "layer_norm1"),
    *sam("cross_attn_token_to_image.", "x/cross_attention", "layer_norm2"),
    *mlp("mlp.lin1", "mlp.lin2", "x/mlp_0"),
    *layer_norm("layer_norm3", "x/mlp_residual_0/norm"),
    *sam("cross_attn_image_to_token.", "context/cross_attention", "layer_norm4"),
)
SAM_WHOLE = (
    *nested("layers.0.", "first/", SAM),
    *nested("layers.{1+i}.", "stack/layer/", SAM),
    *nested(
        "final_attn_token_to_image.",
        "final/",
        attention_entries("", "cross_attention", out="out_proj", biased="qkvo", widths="MM"),
    ),
    *layer_norm("layer_norm_final_attn", "final/cross_residual/norm"),
)

GIT = (
    *bert("attention.", "self_attention", "self_residual/norm"),
    *bert_mlp("intermediate", "output", "mlp_residual/norm"),
)


def qformer(theirs: str, text: bool, norm: str = "layernorm") -> Entries:
    """BLIP-2's, inside a whole model where it has its queries, or alone; with words or without."""
    own = bert("attention.", "self_attention", "self_residual/norm", inner="attention")
    own += bert_mlp("intermediate_query", "output_query", "mlp_residual/norm")
    if text:
        fed = "text_mlp_residual/norm", "text_mlp"
        own += bert_mlp("intermediate", "output", *fed)
    names = {"inner": "attention", "widths": "MN"}
    read = bert("crossattention.", "cross_attention", "cross_residual/norm", **names)
    entries = layer_norm(f"{theirs}{norm}", "norm")
    entries += nested(f"{theirs}encoder.layer.{{i}}.", "layer_{i}/", own)
    entries += nested(f"{theirs}encoder.layer.{{c}}.", "layer_{c}/", read)
    return (*entries, Entry("query_tokens", ("queries",), "1 R M", "R M")) if theirs else entries


def instruct_qformer(theirs: str) -> Entries:
    """InstructBLIP's, with the words of the instruction."""
    tables = (("word", "words", "W M"), ("position", "places", "P M"))
    entries = tuple(
        Entry(f"{theirs}embeddings.{name}_embeddings.weight", (f"{ours}/embedding",), shape)
        for name, ours, shape in tables
    )
    return entries + nested("", "qformer/", qformer(theirs, True, "embeddings.layernorm"))


IP_ADAPTER = (
    *dense("to_q", "query", "Q M", bias=False),
    *dense("to_k", "key", "Q N", bias=False),
    *dense("to_v", "value", "Q N", bias=False),
    *dense("to_out.0", "out", "M Q"),
    *dense("processor.to_k_ip.{i}", "picture_key_{i}", "Q N", bias=False),
    *dense("processor.to_v_ip.{i}", "picture_value_{i}", "Q N", bias=False),
)
# What a published adapter has of one attention: the rest is the image model's own.
IP_ADAPTER_ALONE = (
    *dense("to_k_ip", "picture_key_0", "Q N", bias=False),
    *dense("to_v_ip", "picture_value_0", "Q N", bias=False),
)
IP_ADAPTER_IMAGE = (*dense("proj", "proj", "A C"), *layer_norm("norm", "norm"))

STREAMS: dict[str, tuple[Layout, ...]] = {
    "lxmert": (Layout(lxmert()),),
    "meter": (Layout(fusion("{i}", ""), scopes=FUSED),),
    "bridgetower": (Layout(bridgetower(None), scopes=LINKED),),
    "bridgetower_scaled_add": (Layout(bridgetower("scaled_factor"), scopes=LINKED),),
    "bridgetower_interpolate": (Layout(bridgetower("beta"), scopes=LINKED),),
    "bidirectional": (Layout(BIDIRECTIONAL),),
    "sam_two_way": (Layout(SAM),),
    "sam_two_way_first": (Layout(SAM),),
    "sam_two_way_transformer": (Layout(SAM_WHOLE),),
    "prefix_lm": (Layout(GIT),),
    "qformer": tuple(
        Layout(qformer(theirs, text), scopes=(theirs,))
        for theirs in ("qformer.", "")
        for text in (False, True)
    ),
    "instruct_qformer": tuple(
        Layout(instruct_qformer(theirs), scopes=(theirs,)) for theirs in ("qformer.", "")
    ),
    "ip_adapter": (Layout(IP_ADAPTER), Layout(IP_ADAPTER_ALONE)),
    "ip_adapter_image": (Layout(IP_ADAPTER_IMAGE),),
}

STREAM_CLASSES: dict[str, str] = {
    "lxmert": "LxmertXLayer",
    "meter": "BridgeTowerModel, its fusion layers without the links",
    "bridgetower": "BridgeTowerModel, its fusion layers and links",
    "bridgetower_scaled_add": 'the same with link_tower_type="scaled_add"',
    "bridgetower_interpolate": 'the same with link_tower_type="interpolate"',
    "bidirectional": "GroundingDinoFusionLayer",
    "sam_two_way": "SamTwoWayAttentionBlock",
    "sam_two_way_first": "SamTwoWayAttentionBlock(skip_first_layer_pe=True)",
    "sam_two_way_transformer": "SamTwoWayTransformer",
    "prefix_lm": "GitLayer",
    "qformer": "Blip2QFormerModel, also inside a BLIP-2",
    "instruct_qformer": "InstructBlipQFormerModel, also inside an InstructBLIP",
    "ip_adapter": "diffusers Attention with IPAdapterAttnProcessor, or one of a published adapter",
    "ip_adapter_image": "ImageProjModel of a published IP-Adapter",
}
