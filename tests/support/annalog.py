"""Molecules to molecules: an EncoderDecoder with the weights of the package annalog."""

from dataclasses import replace

from crossattn.interop.entries import attention_entries, layer_norm, mlp, nested
from crossattn.interop.table import Entry, Layout
from crossattn.models.encoder_decoder import EncoderDecoder
from crossattn.models.text_decoder import TextDecoder
from crossattn.models.text_encoder import TextEncoder
from crossattn.nn import MLPConfig, Stack, presets

POST = presets.config("encoder_decoder_post")
DESIGN = replace(
    POST, residual=replace(POST.residual, epsilon=1e-5), mlp=MLPConfig(2, activation="relu")
)


def attention(theirs, norm, ours):
    names = {"names": ("fc_q", "fc_k", "fc_v"), "out": "fc_o", "biased": "qkvo", "widths": "MM"}
    maps = attention_entries(f"{theirs}.", f"{ours}_attention", **names)
    return maps + layer_norm(norm, f"{ours}_residual/norm")


FED = "positionwise_feedforward."
READING = (
    *attention("self_attention", "self_attn_layer_norm", "self"),
    *mlp(f"{FED}fc_1", f"{FED}fc_2"),
    *layer_norm("ff_layer_norm", "mlp_residual/norm"),
)
WRITING = (*READING, *attention("encoder_attention", "enc_attn_layer_norm", "cross"))


def side(name, number, block, words):
    return (
        Entry(f"{name}.tok_embedding.weight", (f"{name}/words/embedding",), f"{words} M"),
        Entry(f"{name}.pos_embedding.weight", (f"{name}/places/embedding",), "P M"),
        *nested(f"{name}.layers.{{{number}}}.", f"{name}/stack/blocks/", block),
    )


LAYOUT = Layout(
    (
        *side("encoder", "i", READING, "S"),
        *side("decoder", "d", WRITING, "W"),
        Entry("decoder.fc_out.weight", ("decoder/output/embedding",), "W M"),
        Entry("decoder.fc_out.bias", ("decoder/bias",), "W"),
    )
)


def of_weights(params, heads):
    """The module of parameters of `LAYOUT`."""
    sides = params["params"]
    (W, M), P = sides["decoder"]["words"]["embedding"].shape, sides["decoder"]["places"]
    blocks = sides["decoder"]["stack"]["blocks"]
    L, _, F = blocks["mlp"]["up"]["kernel"].shape
    design = replace(DESIGN, mlp=replace(DESIGN.mlp, expansion=F / M))
    shared = {"embedding_scale": M**0.5, "final_norm": False}
    length = P["embedding"].shape[0]
    S = sides["encoder"]["words"]["embedding"].shape[0]
    reading = Stack(L, M, heads, replace(design, order=("self", "mlp")))
    return EncoderDecoder(
        TextEncoder(reading, S, length, **shared),
        TextDecoder(Stack(L, M, heads, design), W, length, untied=True, output_bias=True, **shared),
    )
