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
    try:
        heads = published_heads(sizes, checkpoint.generation)
    except ValueError as error:
        raise WeightsError(f"{checkpoint.where}: {error}") from error
    bands, tokens = int(says["num_mel_bins"]), special_tokens(checkpoint)
    return Transcriber(model, params, tokens, checkpoint.tokenizer, bands, heads)


def whisper_model(says: Mapping[str, Any]) -> SpeechModel:
    """The modules of a config.json.

    Raises:
      WeightsError: it lacks something or says what Whisper does not do.

    >>> sizes = dict(d_model=8, vocab_size=11, max_source_positions=4, max_target_positions=6)
    >>> sizes |= {"num_mel_bins": 80}
    >>> sizes |= {f"{side}_{what}": 2 for side in ("encoder", "decoder")
    ...           for what in ("layers", "attention_heads", "ffn_dim")}
    >>> whisper_model(sizes).decoder.vocab_size
    11
    """
    if says.get("scale_embedding"):
        raise WeightsError("scale_embedding is on, which no published Whisper has")
    try:
        encoder, decoder = (_stack(says, side) for side in ("encoder", "decoder"))
        words, places, _ = (
            int(says[key]) for key in ("vocab_size", "max_target_positions", "num_mel_bins")
        )
        sound = AudioEncoder(encoder, int(says["max_source_positions"]))
        return SpeechModel(sound, TextDecoder(decoder, words, places))
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"is not Whisper's: {error}"
        raise WeightsError(f"config.json {what}") from error


def _stack(says, side):
    """The layers of a side; those of the encoder read no context."""
    design, width = presets.config("whisper"), int(says["d_model"])
    heads = int(says[f"{side}_attention_heads"])
    if heads > 0 and width % heads:
        raise ValueError(f"{side}_attention_heads {heads} do not divide d_model {width}")
    activation = settings.activation_of(word := says.get("activation_function", "gelu"))
    if activation is None:
        known = ", ".join(settings.ACTIVATIONS)
        raise ValueError(f"activation_function is {word!r}, expected one of {known}")
    expansion = says[f"{side}_ffn_dim"] / width
    mlp = dataclasses.replace(design.mlp, expansion=expansion, activation=activation)
    order = design.order if side == "decoder" else ("self", "mlp")
    config = dataclasses.replace(design, mlp=mlp, order=order)
    return Stack(int(says[f"{side}_layers"]), width, heads, config)


def special_tokens(checkpoint: Checkpoint) -> SpeechTokens:
    """The tokens that steer it, by their names in the tokenizer.

    Raises:
      WeightsError: tokenizer.json lacks one, or it or the settings are another model's.
    """
    says, words = checkpoint.generation, int(checkpoint.config["vocab_size"])
    vocabulary = checkpoint.tokenizer.get_vocab()
    named = {text[2:-2]: n for text, n in vocabulary.items() if text.startswith("<|")}
    many = says.get("is_multilingual", words >= MULTILINGUAL)
    tasks = ("transcribe", "translate") if many else ()
    for name in ("startoftranscript", "endoftext", *tasks):
        if name not in named:
            raise WeightsError(f"{checkpoint.where}: tokenizer.json has no token '<|{name}|>'")
    codes = {text: n for text, n in named.items() if len(text) in (2, 3) and text.isalpha()}
    found = SpeechTokens(
        named["startoftranscript"],
        named["endoftext"],
        named.get("notimestamps"),
        dict(sorted(codes.items(), key=lambda pair: pair[1])) if many else {},
        {task: named[task] for task in tasks},
        _numbers(checkpoint, "suppress_tokens", words),
        _numbers(checkpoint, "begin_suppress_tokens", words),
        named.get("nospeech", named.get("nocaptions")),
        max(words - 1 - named.get("notimestamps", words), 0),
    )
    _check_tokens(checkpoint, found, words)
    return found


def _numbers(checkpoint, key, words):
    """A list of tokens in the settings."""
    found = checkpoint.generation.get(key)
    found = [] if found is None else found
    whole = lambda n: isinstance(n, int) and not isinstance(n, bool) and 0 <= n < words
    if not isinstance(found, list) or not all(map(whole, found)):
        shown = f"{found!s:.80}"
        raise WeightsError(f"{checkpoint.where}: {key} is no list of tokens below {words}: {shown}")
    return tuple(found)


def _check_tokens(checkpoint, found, words):
    """The tokens of tokenizer.json are those of the weights and of the settings."""
    said = {"startoftranscript": (found.start, checkpoint.generation.get("decoder_start_token_id"))}
    said["endoftext"] = found.end, checkpoint.generation.get("eos_token_id")
    # Whisper's own settings forbid its end as the first token; CTranslate2 keeps no other word.
    if said["endoftext"][1] is None and found.not_first and found.end not in found.not_first:
        said["endoftext"] = found.end, f"one of begin_suppress_tokens {list(found.not_first)}"
    for name, (own, wanted) in said.items():
        other = wanted is not None and own not in (wanted if isinstance(wanted, list) else [wanted])
        if own >= words or other:
            needed = f"below {words}" if own >= words else wanted
            raise WeightsError(
                f"{checkpoint.where}: tokenizer.json is another model's: it has '<|{name}|>' at "
                f"{own}, expected {needed}: copy the tokenizer.json that came with the weights"
            )
