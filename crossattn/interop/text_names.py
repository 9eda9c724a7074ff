"""The layouts of models that read one text and write another."""

from crossattn.interop.entries import Entries, attention_entries, mlp, nested, norm
from crossattn.interop.table import BUFFERS, Entry, Layout

__all__ = ["T5_IGNORED", "TEXT_CLASSES", "TEXT_TO_TEXT"]

# Files of 2019 and 2020 have it; no version of the class reads it.
T5_IGNORED = r"EncDecAttention\.relative_attention_bias\.weight"
T5_BUFFERS = (*BUFFERS, rf"decoder\.block\.0\.layer\.1\.{T5_IGNORED}")
# Under its own name in files that are written from one model in several.
T5_WORDS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")


def t5_attention(layer: str, name: str, ours: str) -> Entries:
    """An attention of T5 with the norm in front of it."""
    site = f"{layer}.{name}."
    maps = attention_entries(site, f"{ours}_attention", names=("q", "k", "v"), out="o", widths="MM")
    return maps + norm(f"{layer}.layer_norm", f"{ours}_residual/norm")


def t5_mlp(layer: str, gated: bool) -> Entries:
    """Its feed-forward layer, of two maps or of three."""
    dense = f"{layer}.DenseReluDense."
    entries = norm(f"{layer}.layer_norm", "mlp_residual/norm")
    if not gated:
        return entries + mlp(f"{dense}wi", f"{dense}wo", bias=False)
    times = Entry(f"{dense}wi_1.weight", ("mlp/times/kernel",), "F.mlp M", "M F.mlp")
    return (*entries, *mlp(f"{dense}wi_0", f"{dense}wo", bias=False), times)


def t5(gated: bool, untied: bool) -> Layout:
    """A whole T5, or T5 1.1, whose words have other vectors in the logits."""
    reading = t5_attention("layer.0", "SelfAttention", "self")
    writing = reading + t5_attention("layer.1", "EncDecAttention", "cross")
    sides = (("encoder", "i", reading + t5_mlp("layer.1", gated)),
             ("decoder", "d", writing + t5_mlp("layer.2", gated)))  # fmt: skip
    entries: Entries = (Entry("shared.weight", ("decoder/words/embedding",), "W M"),)
    for side, number, block in sides:
        entries += nested(f"{side}.block.{{{number}}}.", f"{side}/stack/blocks/", block)
        table = f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        entries += (Entry(table, (f"{side}/relative/table",), "R H"),)
        entries += norm(f"{side}.final_layer_norm", f"{side}/norm")
    tied = dict.fromkeys(T5_WORDS, "shared.weight")
    if untied:
        entries += (Entry("lm_head.weight", ("decoder/output/embedding",), "W M"),)
    else:
        tied["lm_head.weight"] = "shared.weight"
    return Layout(entries, tied, buffers=T5_BUFFERS)


TEXT_TO_TEXT: dict[str, tuple[Layout, ...]] = {
    "t5_encoder_decoder": tuple(
        t5(gated, untied) for untied in (True, False) for gated in (False, True)
    )
}
TEXT_CLASSES: dict[str, str] = {"t5_encoder_decoder": "T5ForConditionalGeneration"}
