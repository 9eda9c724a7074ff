"""Fields of a run by their names of the release before, and fields that came later.

Former names are understood for one release more. What was written before a field was there did what
its default says.
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import Any

from crossattn.fields import flat
from crossattn.nn.config import MLPConfig, ResidualConfig
from crossattn.train.losses import NEXT_WORD

__all__ = ["FORMER_PARTS", "LATE_FIELDS", "present", "with_late_fields"]

# Parts of a run that had another name.
FORMER_PARTS = {"optimiser": "optimizer"}
# Fields that results of earlier versions do not have, and what was done before they were there, as
# JSON has it. A source of data has some of those of data, or none, as a block those of blocks.
LATE_FIELDS: dict[str, Any] = {
    "pretrain_text_steps": 0,
    "initial": "",
    "ignore_initial": False,
    "loss": json.loads(json.dumps(dataclasses.asdict(NEXT_WORD))),
    "optimizer": {"adapted": "", "adapter_rank": 8, "multiplied": "", "rate_multiplier": 10.0},
    "model": {
        "embedding": 0,
        "coordinates": False,
        "text_preset": "",
        "cross_at": 0,
        "encoder_layers": 0,
        "rotary_axes": 1,
        "block": {"siamese": False, "joint_mlp": None},
    },
    "data": {
        "features": "",
        "mismatched": 0.0,
        "only_words": [],
        "curriculum_words": [],
        "curriculum_share": 0.0,
        "tokenizer": "",
        "missing": 0,
        "resolution": "square",
        "packing": 0,
    },
}
FORMER_FIELDS = {"model.perception": "model.image_encoder"}
TWO_STREAMS = {"model.preset": "meter", "model.block.one_sided": ("self",)}
# What "model.fusion" said, by the fields that say it now.
FUSIONS: dict[str, dict[str, Any]] = {
    "cross-attention": {"model.context_view": "tokens"},
    "blind": {"model.context_view": "none"},
    "mean-pool": {"model.context_view": "mean"},
    "oracle-attention": {"model.context_view": "truth"},
    "resampler": {"model.connector": "perceiver_encode"},
    "single-stream": {"model.preset": "prefix_lm"},
    "co-attention": TWO_STREAMS,
    "bidirectional": {**TWO_STREAMS, "model.block.exchange": "one-product"},
}


def present(changes: Mapping[Any, Any]) -> dict[Any, Any]:
    """Changes whose fields have their present names: those of the release before are warned of.

    Example:
      >>> with warnings.catch_warnings(action="ignore"):
      ...     present({"optimiser.clip": 0.5, "model.fusion": "mean-pool"})
      {'optimizer.clip': 0.5, 'model.context_view': 'mean'}
    """
    found: dict[Any, Any] = {}
    for path, value in changes.items():
        for name, new in _present(path, value).items():
            if name != path:
                said = f"{path} is now {name}"
                if name in changes:
                    raise ValueError(f"{said}: give one of them")
                warnings.warn(said, DeprecationWarning, stacklevel=3)
            found[name] = new
    return found


def with_late_fields(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Written settings by dotted path, with the defaults of those that came later.

    Example:
      >>> found = with_late_fields({"steps": 10, "loss.attention": 0.5})
      >>> found["loss.attention"], found["loss.next_word"], found["data.mismatched"]
      (0.5, 1.0, 0.0)
    """
    return flat(LATE_FIELDS) | dict(settings)


def _present(path: Any, value: Any) -> dict[Any, Any]:
    if not isinstance(path, str):
        return {path: value}
    first, dot, rest = path.partition(".")
    if first in FORMER_PARTS:
        return {f"{FORMER_PARTS[first]}{dot}{rest}": value}
    if path == "model.fusion" and value in FUSIONS:
        block = {"model.block.residual": ResidualConfig(), "model.block.mlp": MLPConfig(2.0)}
        fields = FUSIONS[value]
        return fields | (block if "model.preset" in fields else {})
    if path == "model.expansion":
        return {"model.block.mlp.expansion": float(value)}
    if path == "model.contexts":
        return {path: _modalities(value)}
    return {FORMER_FIELDS.get(path, path): value}


def _modalities(contexts: Any) -> Any:
    """Modalities by their present names: "layout" is the former name of "boxes"."""
    if not isinstance(contexts, tuple | list) or "layout" not in contexts:
        return contexts
    warnings.warn("model.contexts layout is now boxes", DeprecationWarning, stacklevel=5)
    return tuple("boxes" if one == "layout" else one for one in contexts)
