"""What published classes call the parameters of our designs: the layouts, by the preset's name."""

from crossattn.interop.entries import (
    QKV,
    Entries,
    attention_entries,
    bare_norm,
    bert,
    bert_mlp,
    dense,
    fed,
    fused,
    gated,
    latents,
    layer_norm,
    mlp,
    nested,
    norm,
    separate,
)
from crossattn.interop.stream_names import STREAM_CLASSES, STREAMS
from crossattn.interop.table import BUFFERS, Entry, Layout
from crossattn.interop.text_names import T5_IGNORED, TEXT_CLASSES, TEXT_TO_TEXT
from crossattn.interop.tower_names import TOWER_CLASSES, TOWERS, bert_words

__all__ = ["CLASSES", "LAYOUTS"]

POST = (
    *bert("attention.", "self_attention", "self_residual/norm"),
    *bert("crossattention.", "cross_attention", "cross_residual/norm", widths="MN"),
    *bert_mlp("intermediate", "output", "mlp_residual/norm"),
)
WHISPER_SELF = (
    *attention_entries("self_attn.", "self_attention", out="out_proj", biased="qvo", widths="MM"),
    *layer_norm("self_attn_layer_norm", "self_residual/norm"),
    *mlp("fc1", "fc2"),
    *layer_norm("final_layer_norm", "mlp_residual/norm"),
)
WHISPER = (
    *WHISPER_SELF,
    *attention_entries("encoder_attn.", "cross_attention", out="out_proj", biased="qvo"),
    *layer_norm("encoder_attn_layer_norm", "cross_residual/norm"),
)


def torch(bias: bool) -> Entries:
    """torch's `TransformerDecoderLayer`."""
    normed = layer_norm if bias else bare_norm
    return (
        *fused("self_attn.", "self_attention", bias=bias),
        *normed("norm1", "self_residual/norm"),
        *fused("multihead_attn.", "cross_attention", bias=bias),
        *normed("norm2", "cross_residual/norm"),
        *mlp("linear1", "linear2", bias=bias),
        *normed("norm3", "mlp_residual/norm"),
    )


T5 = (
    *attention_entries("EncDecAttention.", "cross_attention", names=("q", "k", "v"), out="o"),
    *norm("layer_norm", "cross_residual/norm"),
)
T5GEMMA_CROSS = (
    *attention_entries("cross_attn.", "cross_attention"),
    *norm("pre_cross_attn_layernorm", "cross_residual/norm"),
    *norm("post_cross_attn_layernorm", "cross_residual/norm_after"),
)
T5GEMMA = (
    *T5GEMMA_CROSS,
    *attention_entries("self_attn.", "self_attention", widths="MM"),
    *norm("pre_self_attn_layernorm", "self_residual/norm"),
    *norm("post_self_attn_layernorm", "self_residual/norm_after"),
    *gated("mlp."),
    *norm("pre_feedforward_layernorm", "mlp_residual/norm"),
    *norm("post_feedforward_layernorm", "mlp_residual/norm_after"),
)


def head_norms(query: str, key: str) -> Entries:
    """Norms of each head's queries and keys."""
    return tuple(
        Entry(f"{theirs}.weight", (f"cross_attention/{ours}_norm/scale",), "D")
        for theirs, ours in zip((query, key), QKV, strict=False)
    )


MERGED = (*attention_entries("", "cross_attention", widths="MM"), *head_norms("q_norm", "k_norm"))
MLLAMA = (
    *attention_entries("cross_attn.", "cross_attention"),
    *head_norms("cross_attn.q_norm", "cross_attn.k_norm"),
    *norm("input_layernorm", "cross_residual/norm"),
    Entry("cross_attn_attn_gate", ("cross_residual/gate",), "1"),
    *gated("mlp."),
    *norm("post_attention_layernorm", "mlp_residual/norm"),
    Entry("cross_attn_mlp_gate", ("mlp_residual/gate",), "1"),
)


def idefics(norms: bool, gate: str) -> Entries:
    """With or without norms of queries and keys; gates of one number or of one for each feature."""
    becomes = gate.split()[-1]
    heads = head_norms("cross_attn.q_layer_norm", "cross_attn.k_layer_norm")
    return (
        *attention_entries("cross_attn.", "cross_attention"),
        *(heads if norms else ()),
        *norm("input_layernorm", "cross_residual/norm"),
        Entry("alpha_cross_attn", ("cross_residual/gate",), gate, becomes),
        *gated("mlp."),
        *norm("post_attention_layernorm", "mlp_residual/norm"),
        Entry("alpha_dense", ("mlp_residual/gate",), gate, becomes),
    )


def perceiver(ours: str, joined: str, widths: str) -> Entries:
    """A layer of the Perceiver, but for the norm of its context."""
    q, k, v = (f"self.{name}" for name in QKV)
    return (
        *layer_norm("attention.self.layernorm1", joined),
        *attention_entries(
            "attention.", ours, names=(q, k, v), out="output.dense", biased="qkvo", widths=widths
        ),
        *layer_norm("layernorm", "mlp_residual/norm"),
        *mlp("mlp.dense1", "mlp.dense2"),
    )


PERCEIVER = (
    *perceiver("cross_attention", "cross_residual/norm", "MN"),
    *layer_norm("attention.self.layernorm2", "context_norm", width="N"),
)
PERCEIVER_LAYER = fed(perceiver("self_attention", "self_residual/norm", "MM"), "F.own")
PERCEIVER_ENCODER = (
    *nested("cross_attention.", "read/", PERCEIVER),
    *nested("self_attends.{i}.", "blocks/", PERCEIVER_LAYER),
)
# What stands around the encoder: M are the words, N the latents.
PERCEIVER_TEXT = (
    Entry("perceiver.embeddings.latents", ("latents",), "T N"),
    Entry("perceiver.input_preprocessor.embeddings.weight", ("words/embedding",), "W M"),
    Entry("perceiver.input_preprocessor.position_embeddings.weight", ("places/embedding",), "P M"),
    Entry("perceiver.decoder.output_position_encodings.position_embeddings", ("queries",), "P M"),
    *nested("perceiver.decoder.decoding_cross_attention.", "write/", PERCEIVER),
    Entry("embedding_decoder.bias", ("bias",), "W"),
)
PERCEIVER_SCOPES = (
    *("perceiver.embeddings.", "perceiver.input_preprocessor.", "perceiver.decoder."),
    "embedding_decoder.",
)
RESAMPLER = (
    *layer_norm("0.context_layer_norm", "context_norm"),
    *layer_norm("0.latents_layer_norm", "cross_residual/norm"),
    *attention_entries("0.", "cross_attention", out="output_proj", widths="MM"),
    *layer_norm("1.ln", "mlp_residual/norm"),
    *mlp("1.fc", "1.c_proj", bias=False),
)
IDEFICS2 = (
    *norm("input_latents_norm", "cross_residual/norm"),
    *norm("input_context_norm", "context_norm"),
    *attention_entries("self_attn.", "cross_attention", widths="MM"),
    *norm("post_attention_layernorm", "mlp_residual/norm"),
    *gated("mlp."),
)
COCA_NORMS = (
    *layer_norm("ln_q", "cross_residual/norm"),
    *layer_norm("ln_k", "context_norm", width="N"),
)
MAP_HEAD = (
    *fused("attention.", "cross_attention"),
    *layer_norm("layernorm", "mlp_residual/norm"),
    *mlp("mlp.fc1", "mlp.fc2"),
)
PROJECTOR = (
    *dense("dense", "context_projection", "M N"),
    *attention_entries("x_attn.", "cross_attention", out="out_proj", biased="qkvo", widths="MM"),
)
NULL = tuple(
    Entry(f"bias_{name[0]}", (f"cross_attention/bias_{name[0]}",), "1 1 Q.cross", "H D")
    for name in QKV[1:]
)
SINKS = (
    *attention_entries("", "cross_attention", biased="qkvo", widths="MM"),
    Entry("sinks", ("cross_attention/sink",), "H"),
)
BLIP = (
    *bert_words("bert.embeddings."),
    *nested("bert.encoder.layer.{i}.", "stack/blocks/", POST),
    *dense("cls.predictions.transform.dense", "transform", "E M"),
    *layer_norm("cls.predictions.transform.LayerNorm", "transform_norm"),
    Entry("cls.predictions.bias", ("bias",), "W"),
)
BLIP_TIED = {
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
BLIP_QUESTION = (
    *bert_words("embeddings."),
    *nested("encoder.layer.{i}.", "stack/blocks/", POST),
)
WHISPER_DECODER = (
    Entry("model.decoder.embed_tokens.weight", ("words/embedding",), "W M"),
    Entry("model.decoder.embed_positions.weight", ("places/embedding",), "P M"),
    *nested("model.decoder.layers.{i}.", "stack/blocks/", WHISPER),
    *layer_norm("model.decoder.layer_norm", "norm"),
)
WHISPER_ENCODER = (
    Entry("model.encoder.conv1.weight", ("first/kernel",), "M C 3", "3 C M"),
    Entry("model.encoder.conv1.bias", ("first/bias",), "M"),
    Entry("model.encoder.conv2.weight", ("second/kernel",), "M E 3", "3 E M"),
    Entry("model.encoder.conv2.bias", ("second/bias",), "M"),
    Entry("model.encoder.embed_positions.weight", ("places",), "S M"),
    *nested("model.encoder.layers.{i}.", "stack/blocks/", WHISPER_SELF),
    *layer_norm("model.encoder.layer_norm", "norm"),
)
WHISPER_SCOPES = ("model.decoder.", "proj_out.")
WHISPER_TIED = {"proj_out.weight": "model.decoder.embed_tokens.weight"}

# Where a class has variants the one that fits best is taken, the first of equals.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "encoder_decoder_pre": (Layout(torch(bias=True)),),
    "cappa": (Layout(torch(bias=False)),),
    "encoder_decoder_post": (Layout(POST),),
    "whisper": (Layout(WHISPER),),
    "t5": (Layout(T5, buffers=(*BUFFERS, T5_IGNORED)),),
    "t5gemma": (Layout(T5GEMMA), Layout(T5GEMMA_CROSS)),
    "merged": (Layout(MERGED),),
    "idefics": tuple(
        Layout(idefics(norms, gate)) for gate in ("1", "1 1 M") for norms in (False, True)
    ),
    "mllama": (Layout(MLLAMA),),
    "perceiver_encode": (Layout(PERCEIVER),),
    "perceiver_decode": (Layout(PERCEIVER),),
    "perceiver": (Layout(PERCEIVER_ENCODER),),
    "perceiver_text": (Layout(PERCEIVER_TEXT, scopes=PERCEIVER_SCOPES),),
    "resampler": (
        Layout(
            (
                *latents("latents"),
                *nested("blocks.{i}.", "reader/blocks/", RESAMPLER),
                *layer_norm("layer_norm", "norm"),
            )
        ),
    ),
    "resampler_masked": (
        Layout(
            (
                *latents("latents"),
                *nested("layers.{i}.", "reader/blocks/", IDEFICS2),
                *norm("norm", "norm"),
            )
        ),
    ),
    "coca_pooler": tuple(
        Layout((*latents("query"), *nested("", "reader/", maps + COCA_NORMS)))
        for maps in (separate("attn.", "cross_attention"), fused("attn.", "cross_attention"))
    ),
    "map_head": (Layout((*latents("probe", "1 T M"), *nested("", "reader/", MAP_HEAD))),),
    "latent_projector": (Layout((*latents("latent_query"), *nested("", "reader/", PROJECTOR))),),
    "axial_rope": (Layout(attention_entries("", "cross_attention", biased="qkvo")),),
    "null_key": (
        Layout((*separate("", "cross_attention"), *NULL)),
        Layout((*fused("", "cross_attention"), *NULL)),
    ),
    "sinks": (Layout(SINKS),),
    "blip_decoder": (Layout(BLIP, BLIP_TIED, ("bert.", "cls.")),),
    "blip_question": (Layout(BLIP_QUESTION),),
    "whisper_decoder": (Layout(WHISPER_DECODER, WHISPER_TIED, WHISPER_SCOPES, outer="model."),),
    **TOWERS,
    **TEXT_TO_TEXT,
    "whisper_encoder": (Layout(WHISPER_ENCODER, scopes=("model.encoder.",), outer="model."),),
    **STREAMS,
}

# Whose parameters these are: classes of transformers unless it is said otherwise.
CLASSES: dict[str, str] = {
    "encoder_decoder_pre": "torch.nn.TransformerDecoderLayer",
    "cappa": "torch.nn.TransformerDecoderLayer(bias=False)",
    "encoder_decoder_post": "BlipTextLayer, BridgeTowerBertCrossLayer",
    "whisper": "WhisperDecoderLayer",
    "t5": "T5LayerCrossAttention",
    "t5gemma": "T5GemmaDecoderLayer, or its cross-attention",
    "merged": "T5Gemma2MergedAttention",
    "idefics": "IdeficsGatedCrossAttentionLayer",
    "mllama": "MllamaCrossAttentionDecoderLayer",
    "perceiver_encode": "PerceiverLayer",
    "perceiver_decode": "PerceiverLayer",
    "perceiver": "PerceiverEncoder",
    "perceiver_text": "PerceiverForMaskedLM, all but its encoder",
    "resampler": "IdeficsPerceiverResampler",
    "resampler_masked": "Idefics2PerceiverResampler",
    "coca_pooler": "open_clip AttentionalPooler",
    "map_head": "SiglipMultiheadAttentionPoolingHead",
    "latent_projector": "Kosmos2ImageToTextProjection",
    "axial_rope": "Sam2VideoRoPEAttention",
    "null_key": "torch.nn.MultiheadAttention(add_bias_kv=True)",
    "sinks": "GptOssAttention",
    "blip_decoder": "BlipTextLMHeadModel",
    "blip_question": "BlipTextModel, which reads a picture",
    "whisper_decoder": "WhisperForCausalLM, the decoder of WhisperModel",
    **TOWER_CLASSES,
    **TEXT_CLASSES,
    "whisper_encoder": "the encoder of WhisperModel",
    **STREAM_CLASSES,
}
