"""Whisper (Radford et al. 2022, arXiv:2212.04356): its modules, its weights, its tokens."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.interop import config as settings
from crossattn.interop import huggingface
from crossattn.interop.files import WeightsError
from crossattn.interop.table import ImportMismatchError, Line
from crossattn.models.audio_encoder import AudioEncoder
from crossattn.models.speech_model import SpeechModel
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import presets
from crossattn.nn.stack import Stack
from crossattn.pretrained.alignment_heads import published_heads
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.transcriber import SpeechTokens, Transcriber

__all__ = ["load_whisper", "whisper_model"]

# The first size of a vocabulary that has languages and tasks.
MULTILINGUAL = 51_865


def load_whisper(checkpoint: Checkpoint, *, dtype: Any = jnp.float32) -> Transcriber:
    """A `Transcriber`; its parameters are of `dtype`, whatever they are stored in.

    Raises:
      WeightsError: config.json lacks something or says what Whisper does not do.
      ImportMismatchError: tensors are missing, unknown or misshaped.
    """
    says, model = checkpoint.config, whisper_model(checkpoint.config)
    tensors = checkpoint.tensors
    known = ("model.encoder.", "model.decoder.", "proj_out.", "encoder.", "decoder.")
    if more := [Line("unknown", name) for name in tensors if not name.startswith(known)]:
        raise ImportMismatchError(f"{len(more)} tensors do not fit Whisper", more)
    params = {
        "encoder": huggingface.load(tensors, "whisper_encoder", module=model.encoder)["params"],
        "decoder": huggingface.load(tensors, "whisper_decoder", module=model.decoder)["params"],
    }
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), {"params": params})
    decoder = model.decoder.stack
    sizes = decoder.layers, decoder.heads, int(says["vocab_size"])
    return Transcriber(
        model,
        params,
        special_tokens(checkpoint),
        checkpoint.tokenizer,
        int(says["num_mel_bins"]),
        published_heads(sizes, checkpoint.generation),
    )


def whisper_model(says: Mapping[str, Any]) -> SpeechModel:
    """The modules of a config.json.

    Raises:
      WeightsError: it lacks something or says what Whisper does not do.

    >>> sizes = dict(d_model=8, vocab_size=11, max_source_positions=4, max_target_positions=6)
    >>> sizes |= {f"{side}_{what}": 2 for side in ("encoder", "decoder")
    ...           for what in ("layers", "attention_heads", "ffn_dim")}
    >>> whisper_model(sizes).decoder.vocab_size
    11
    """
    if says.get("scale_embedding"):
        raise WeightsError("scale_embedding is on, which no published Whisper has")
    activation = settings.ACTIVATIONS.get(says.get("activation_function", "gelu"))
    if activation != "gelu":
        raise WeightsError(f"activation_function is {says['activation_function']!r}, not 'gelu'")
    try:
        encoder, decoder = (_stack(says, side) for side in ("encoder", "decoder"))
        words, places = int(says["vocab_size"]), int(says["max_target_positions"])
        sound = AudioEncoder(encoder, int(says["max_source_positions"]))
        return SpeechModel(sound, TextDecoder(decoder, words, places))
    except (KeyError, TypeError, ValueError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"is not Whisper's: {error}"
        raise WeightsError(f"config.json {what}") from error


def _stack(says, side):
    """The layers of a side; those of the encoder read no context."""
    design, width = presets.config("whisper"), int(says["d_model"])
    mlp = dataclasses.replace(design.mlp, expansion=says[f"{side}_ffn_dim"] / width)
    order = design.order if side == "decoder" else ("self", "mlp")
    config = dataclasses.replace(design, mlp=mlp, order=order)
    return Stack(int(says[f"{side}_layers"]), width, int(says[f"{side}_attention_heads"]), config)


def special_tokens(checkpoint: Checkpoint) -> SpeechTokens:
    """The tokens that steer it, by their names in the tokenizer."""
    tokenizer, says = checkpoint.tokenizer, checkpoint.generation
    named = {text: n for text, n in tokenizer.get_vocab().items() if text.startswith("<|")}
    try:
        start, end = named["<|startoftranscript|>"], named["<|endoftext|>"]
    except KeyError as error:
        raise WeightsError(f"{checkpoint.where}: tokenizer.json has no token {error}") from error
    many = says.get("is_multilingual", checkpoint.config["vocab_size"] >= MULTILINGUAL)
    codes = {
        text[2:-2]: n for text, n in named.items() if 4 < len(text) < 8 and text[2:-2].isalpha()
    }
    plain = named.get("<|notimestamps|>")
    numbers = lambda key: tuple(says.get(key) or ())
    return SpeechTokens(
        start,
        end,
        plain,
        dict(sorted(codes.items(), key=lambda pair: pair[1])) if many else {},
        {task: named[f"<|{task}|>"] for task in ("transcribe", "translate")} if many else {},
        numbers("suppress_tokens"),
        numbers("begin_suppress_tokens"),
    )
