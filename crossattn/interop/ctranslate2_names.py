"""What CTranslate2 calls the tensors of Whisper: the published names, and what config.json says."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossattn.interop.ctranslate2 import Variables
from crossattn.interop.entries import Entries
from crossattn.interop.files import WeightsError
from crossattn.interop.fitting import imported
from crossattn.interop.table import Entry, ImportMismatchError, Layout

__all__ = ["published_config", "published_tensors"]

WHISPER = "WhisperSpec"
# Numbers of its own that Whisper has: GELU by erf, norms before sublayers; other switches are off.
FIXED = {"activation": 3, "pre_norm": 1}
FREE = ("num_heads", "alignment_heads", "alignment_layer", "alibi_use_positive_positions")


def named(theirs: str, published: str, shape: str) -> Entries:
    """A weight and its bias."""
    bias = Entry(f"{theirs}/bias", (f"{published}.bias",), shape.split()[0])
    return (Entry(f"{theirs}/weight", (f"{published}.weight",), shape), bias)


def normed(theirs: str, published: str) -> Entries:
    """A layer norm."""
    pairs = (("gamma", "weight"), ("beta", "bias"))
    return tuple(Entry(f"{theirs}/{one}", (f"{published}.{other}",), "M") for one, other in pairs)


def fused_maps(theirs: str, published: str, maps: str) -> Entries:
    """Maps that are stored as one, by their letters."""
    weights, biases = (
        tuple(f"{published}.{letter}_proj.{leaf}" for letter in maps) for leaf in ("weight", "bias")
    )
    count = len(maps) if len(maps) > 1 else ""
    shape = f"{count}M M"
    return (
        Entry(f"{theirs}/weight", weights, shape),
        Entry(f"{theirs}/bias", biases, shape.split()[0]),
    )


def layer(theirs: str, published: str, cross: bool) -> Entries:
    """A layer of the encoder, or of the decoder."""
    read: Entries = ()
    if cross:
        one, other = f"{theirs}attention", f"{published}encoder_attn"
        read = (
            *normed(f"{one}/layer_norm", f"{other}_layer_norm"),
            *fused_maps(f"{one}/linear_0", other, "q"),
            *fused_maps(f"{one}/linear_1", other, "kv"),
            *named(f"{one}/linear_2", f"{other}.out_proj", "M M"),
        )
    one, other = f"{theirs}self_attention", f"{published}self_attn"
    hidden = "F" if cross else "E"
    return (
        *normed(f"{one}/layer_norm", f"{other}_layer_norm"),
        *fused_maps(f"{one}/linear_0", other, "qkv"),
        *named(f"{one}/linear_1", f"{other}.out_proj", "M M"),
        *read,
        *normed(f"{theirs}ffn/layer_norm", f"{published}final_layer_norm"),
        *named(f"{theirs}ffn/linear_0", f"{published}fc1", f"{hidden} M"),
        *named(f"{theirs}ffn/linear_1", f"{published}fc2", f"M {hidden}"),
    )


ENCODER, DECODER = "model.encoder.", "model.decoder."
LAYOUT = Layout(
    (
        *named("encoder/conv1", f"{ENCODER}conv1", "M C 3"),
        *named("encoder/conv2", f"{ENCODER}conv2", "M M 3"),
        Entry("encoder/position_encodings/encodings", (f"{ENCODER}embed_positions.weight",), "S M"),
        *layer("encoder/layer_{i}/", f"{ENCODER}layers.{{i}}.", cross=False),
        *normed("encoder/layer_norm", f"{ENCODER}layer_norm"),
        Entry("decoder/embeddings/weight", (f"{DECODER}embed_tokens.weight",), "W M"),
        Entry("decoder/position_encodings/encodings", (f"{DECODER}embed_positions.weight",), "P M"),
        *layer("decoder/layer_{j}/", f"{DECODER}layers.{{j}}.", cross=True),
        *normed("decoder/layer_norm", f"{DECODER}layer_norm"),
    ),
    tied={"decoder/projection/weight": "decoder/embeddings/weight"},
)


def published_tensors(variables: Variables) -> dict[str, np.ndarray]:
    """Tensors under the names of transformers' `WhisperForConditionalGeneration`.

    The bias of keys, which Whisper does not have and CTranslate2 stores as zeros, is left out.

    Raises:
      WeightsError: it is another model, or other numbers than Whisper's are in it.
      ImportMismatchError: variables are missing, unknown or misshaped; its message is a table.
    """
    numbers = _numbers(variables)
    shapes = {name: shape for name, shape in variables.shapes.items() if name not in numbers}
    fit = imported(LAYOUT, shapes)
    if fit.problems:
        many = f"{len(fit.problems)} variables do not fit CTranslate2's Whisper"
        raise ImportMismatchError(many, fit.problems)
    found: dict[str, np.ndarray] = {}
    for place in fit.places:
        array = variables[place.name]
        if array.dtype.kind in "iu":
            raise WeightsError(f"{variables.where} has {place.name} in {array.dtype} without scale")
        found |= place.entry.read(array, fit.sizes)
    keys = [name for name in found if name.endswith(".k_proj.bias")]
    if bad := [name for name in keys if np.any(found.pop(name))]:
        raise WeightsError(f"{variables.where} has {bad[0]} that is not 0: Whisper has none")
    return found


def published_config(variables: Variables, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What the config.json of transformers says of such a model."""
    layers = lambda side: sum(
        bool(re.fullmatch(rf"model\.{side}\.layers\.\d+\.fc1\.bias", name)) for name in tensors
    )
    shape = lambda name: tensors[name].shape
    width, mels, _ = shape(f"{ENCODER}conv1.weight")
    heads = {side: int(variables[f"{side}/num_heads"]) for side in ("encoder", "decoder")}
    return {
        "model_type": "whisper",
        "d_model": width,
        "num_mel_bins": mels,
        "max_source_positions": shape(f"{ENCODER}embed_positions.weight")[0],
        "max_target_positions": shape(f"{DECODER}embed_positions.weight")[0],
        "vocab_size": shape(f"{DECODER}embed_tokens.weight")[0],
        "activation_function": "gelu",
        "scale_embedding": False,
        **{f"{side}_attention_heads": count for side, count in heads.items()},
        **{f"{side}_layers": layers(side) for side in heads},
        **{f"{side}_ffn_dim": shape(f"model.{side}.layers.0.fc1.weight")[0] for side in heads},
    }


def _numbers(variables: Variables) -> dict[str, int]:
    """Variables that are one number, all of which are as Whisper has them."""
    if variables.specification != WHISPER:
        what = f"{variables.specification}: only {WHISPER} is loaded"
        raise WeightsError(f"{variables.where} is a CTranslate2 model of {what}")
    found = {name: int(variables[name]) for name, shape in variables.shapes.items() if not shape}
    for name, number in found.items():
        what = name.rpartition("/")[2]
        if what not in FREE and number != FIXED.get(what, 0):
            raise WeightsError(f"{variables.where} has {name} {number}, which Whisper has not")
    for side in ("encoder", "decoder"):
        if f"{side}/num_heads" not in found:
            raise WeightsError(f"{variables.where} has no {side}/num_heads")
    return found
