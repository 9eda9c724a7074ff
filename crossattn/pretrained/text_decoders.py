"""A published text decoder as what a run of the laboratory starts with."""

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from crossattn.files import write_atomically
from crossattn.interop.files import WeightsError
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import presets
from crossattn.nn.stack import Stack
from crossattn.pretrained.transcriber import Transcriber
from crossattn.train.initial import FILE

__all__ = ["decoder_parameters", "write_decoder"]

# What reads the sound: behind it nothing is left of these layers.
OWN_CONTEXT = ("cross_attention", "cross_residual")


def write_decoder(model: Any, folder: Path) -> int:
    """Write decoder.npz and tokenizer.json of a model by `load_model`, for `run.initial`.

    Returns:
      How many parameters there are.

    Raises:
      WeightsError: the model has no such decoder as `decoder_parameters` takes.
    """
    if not isinstance(model, Transcriber):
        raise WeightsError(
            f"a run starts with the decoder of a model of speech, not of a {type(model).__name__}"
        )
    decoder, params = model.model.decoder, model.params["params"]["decoder"]
    arrays, settings = decoder_parameters(decoder, params)
    steer = model.special
    special = {"<bos>": steer.start, "<eos>": steer.end, "<pad>": steer.end}
    about = json.dumps({"settings": settings, "special": special}).encode()
    buffer = io.BytesIO()
    arrays["about"] = np.frombuffer(about, np.uint8)
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "tokenizer.json", model.tokenizer.to_str())
    write_atomically(folder / FILE, buffer.getvalue())
    return sum(array.size for name, array in arrays.items() if name != "about")


def decoder_parameters(
    decoder: TextDecoder, params: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A decoder's parameters by their paths in a `VisionLanguageDecoder`, and its settings.

    Its layers are then the text blocks among those that read an image ("flamingo"), and its own
    attention to a context is left out: an attention that sees nothing adds exactly nothing.

    Raises:
      WeightsError: it has something that a `VisionLanguageDecoder` has not.
    """
    name = _preset(decoder)
    flattened = flatten_dict(params, sep="/")
    arrays = {"position": flattened.pop("places/embedding")}
    for path, leaf in flattened.items():
        if not any(part in OWN_CONTEXT for part in path.split("/")):
            arrays[path.replace("stack/blocks/", "stack/groups/text0/")] = leaf
    stack = decoder.stack
    assert isinstance(stack, Stack)
    settings = {
        "model.preset": "flamingo",
        "model.text_preset": name,
        "model.width": stack.width,
        "model.layers": stack.layers,
        "model.heads": stack.heads,
        "model.block.mlp.expansion": float(stack.config.mlp.expansion),
    }
    return {path: np.asarray(leaf, np.float32) for path, leaf in arrays.items()}, settings


def _preset(decoder: TextDecoder) -> str:
    """The preset of its layers."""
    plain = TextDecoder(decoder.stack, decoder.vocab_size, decoder.length)
    config = decoder.stack.config if type(decoder.stack) is Stack else None
    for name in presets.names():
        design = presets.config(name)
        mlp = getattr(design, "mlp", None)
        if config and mlp and isinstance(design, type(config)):
            sized = dataclasses.replace(mlp, expansion=config.mlp.expansion)
            same = dataclasses.replace(design, mlp=sized) == config
            if same and decoder == plain:
                return name
    raise WeightsError(
        "a run starts with a decoder like Whisper's: learned positions, a Stack, a norm, and "
        "logits by the embeddings of its words"
    )
