"""What the config.json beside tensors says that they do not: heads, epsilon, activation.

Whatever both know is compared, and so is the module that is to take the parameters: with another
number of heads it would run, and write something else.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossattn.interop.files import WeightsError
from crossattn.interop.table import Fit, Line

__all__ = ["Config", "activation_of", "config_misfits", "read_config", "read_object"]

NAME = "config.json"
LONGEST = 100_000_000
# Where a config has one for each of its models: that in which the preset's sizes are.
SECTIONS = {
    "blip_decoder": "text_config",
    **dict.fromkeys(("blip_question", "clip_text", "siglip_text"), "text_config"),
    **dict.fromkeys(("blip_vision", "clip_vision", "siglip_vision"), "vision_config"),
    "encoder_decoder_post": "text_config",
    "latent_projector": "text_config",
    "map_head": "vision_config",
    "mllama": "text_config",
    "instruct_qformer": "qformer_config",
    "qformer": "qformer_config",
    "resampler": "perceiver_config",
    "resampler_masked": "perceiver_config",
    "sam_two_way": "mask_decoder_config",
    "sam_two_way_first": "mask_decoder_config",
    "sam_two_way_transformer": "mask_decoder_config",
}
# The words of published classes for each size, of which a config has one; {} is the side.
KEYS: dict[str, tuple[str, ...]] = {
    "heads": (
        *("{}_attention_heads", "resampler_n_heads", "num_attention_heads", "num_heads", "n_heads"),
        *("n_head", "nhead", "attention_heads", "memory_attention_num_attention_heads"),
    ),
    "key_value_heads": ("num_key_value_heads", "num_kv_heads", "n_kv_heads"),
    "head_size": ("head_dim", "d_kv", "resampler_head_dim"),
    "M": ("d_model", "hidden_size", "n_embd", "embed_dim", "memory_attention_hidden_size"),
    "N": ("encoder_hidden_size",),
    "F.mlp": ("{}_ffn_dim", "d_ff", "intermediate_size", "mlp_dim", "n_inner"),
    "W": ("vocab_size",),
    "P": ("max_target_positions", "max_position_embeddings", "n_positions"),
    "T": ("resampler_n_latents", "latent_query_num"),
    "epsilon": ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps"),
    "activation": ("activation_function", "hidden_act", "hidden_activation", "feed_forward_proj"),
}
PERCEIVER = {
    "heads": ("num_cross_attention_heads",),
    "M": ("d_latents",),
    # Its class takes the default of torch.
    "epsilon": (),
}
OWN: dict[str, Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("perceiver", "perceiver_encode", "perceiver_decode"), PERCEIVER),
    "perceiver_text": {"N": ("d_latents",), "T": ("num_latents",), "heads": (), "epsilon": ()},
    "detr": {"T": ("num_queries",), "heads": (), "epsilon": ()},
    # Half of the encoder's heads.
    "bidirectional": {"heads": ()},
    "ip_adapter": dict.fromkeys(KEYS, ()),
    "ip_adapter_image": dict.fromkeys(KEYS, ()),
    **{key: {"D": ("projection_dim",)} for key in ("clip", "clip_vision_projection")},
    "blip2": {"D": ("image_text_hidden_size",)},
    "whisper_encoder": {"S": ("max_source_positions",), "C": ("num_mel_bins",), "P": (), "W": ()},
}
LAYERS = {
    "whisper": ("{}_layers",),
    "whisper_decoder": ("{}_layers",),
    "whisper_encoder": ("{}_layers",),
    "t5": ("num_decoder_layers", "num_layers"),
    "lxmert": ("x_layers",),
    "perceiver": ("num_self_attends_per_block",),
    "sam_two_way_transformer": ("num_hidden_layers",),
    "resampler": ("resampler_depth",),
    "resampler_masked": ("resampler_depth",),
    **dict.fromkeys(
        (
            *("blip_decoder", "encoder_decoder_post", "t5gemma", "merged", "meter", "prefix_lm"),
            *("vit", "clip_vision", "siglip_vision", "blip_vision"),
            *("clip_text", "siglip_text", "blip_question"),
        ),
        ("num_hidden_layers",),
    ),
}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_python": "gelu",
    "gelu_accurate": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "quick_gelu": "gelu-quick",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

FIELDS = {"M": "width", "W": "vocab_size", "P": "length", "S": "length"}


class Config:
    """A config.json in the words of a preset.

    Attributes:
      found: {what: (key, value)} of what it says.

    >>> Config({"encoder_attention_heads": 4, "decoder_attention_heads": 6}, "whisper").heads
    6
    """

    def __init__(self, content: Mapping[str, Any], preset: str, prefix: str = ""):
        own = preset.endswith("_encoder") or re.search(r"(^|\.)encoder\.", prefix)
        side = "encoder" if own else "decoder"
        for section in (SECTIONS.get(preset, ""), side):
            if isinstance(content.get(section), dict):
                content = content[section]
        keys = {**KEYS, "layers": LAYERS.get(preset, ()), **OWN.get(preset, {})}
        # Of its layers the first is not stacked with the others.
        self.apart = preset == "sam_two_way_transformer"
        self.relative = str(content.get("position_embedding_type")).startswith("relative")
        self.found: dict[str, tuple[str, Any]] = {}
        for what, words in keys.items():
            for key in (word.format(side) for word in words):
                if what not in self.found and content.get(key) is not None:
                    self.found[what] = key, content[key]

    @property
    def heads(self) -> int | None:
        """How many there are."""
        value = self._value("heads")
        return value if _whole(value) else None

    @property
    def epsilon(self) -> float | None:
        """Of the norms."""
        value = self._value("epsilon")
        return float(value) if isinstance(value, int | float) and 0 < value < 1 else None

    @property
    def activation(self) -> str | None:
        """In the words of `MLP`; None also where it has no such one."""
        return activation_of(self._value("activation"))

    def _value(self, what: str) -> Any:
        return self.found.get(what, ("", None))[1]


def activation_of(word: Any) -> Any:
    """An activation in the words of `MLP`, also one that T5 says to be gated; None of others.

    >>> activation_of("quick_gelu"), activation_of("gated-silu"), activation_of("tanh")
    ('gelu-quick', 'silu', None)
    """
    if word == "gated-gelu":  # as T5 has it
        return "gelu-tanh"
    return ACTIVATIONS.get(word.removeprefix("gated-")) if isinstance(word, str) else None


def read_config(folder: Path) -> Mapping[str, Any] | None:
    """The content of the config.json in a folder; None where there is none.

    Raises:
      WeightsError: it is damaged.
    """
    path = folder / NAME
    return read_object(path) if path.is_file() else None


def read_object(path: Path) -> dict[str, Any]:
    """The names and values of a JSON file of a published model.

    Raises:
      WeightsError: it cannot be read, or is damaged.
    """
    try:
        with path.open("rb") as file:
            content = json.loads(file.read(LONGEST).decode())
    except (ValueError, RecursionError, OSError) as error:
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise WeightsError(f"{path} is damaged: {said}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} is damaged: it is no object of names and values")
    return content


def config_misfits(
    config: Config, fit: Fit, module: Any = None, *, layers: bool = True
) -> list[Line]:
    """What a config says otherwise than the tensors, and the module otherwise than both.

    Args:
      config: of the preset.
      fit: of the tensors.
      module: the one that is to take the parameters, or None.
      layers: whether the file has to have all of them.
    """
    lines, sizes = [], dict(fit.sizes)
    if count := len({place.layer for place in fit.places if place.entry.stacked}):
        sizes["layers"] = count + config.apart
    if not layers:
        sizes.pop("layers", None)
    for what, (key, value) in config.found.items():
        if what == "epsilon":
            if config.epsilon is None:
                lines.append(Line("config", key, repr(value), "a number above 0 and below 1"))
        elif what == "activation":
            if config.activation is None and _feeds(sizes):
                lines.append(Line("config", key, repr(value), f"one of {', '.join(ACTIVATIONS)}"))
        elif not _whole(value):
            lines.append(Line("config", key, repr(value), "a whole number"))
        elif what in sizes and sizes[what] != value:
            lines.append(Line("config", key, str(value), f"{sizes[what]}, as the tensors have it"))
    if not lines:
        lines = _of_heads(config, fit.sizes)
    if config.relative and any(name.endswith("distance_embedding.weight") for name in fit.ignored):
        needed = "absolute: nothing here reads its tensors"
        lines.append(Line("config", "position_embedding_type", "relative", needed))
    return lines + ([] if module is None else _of_module(config, sizes, _inner(module), module))


def _of_heads(config: Config, sizes: Mapping[str, int]) -> list[Line]:
    """Heads against the sizes of all queries and keys together."""
    if config.heads is None or not (queries := sizes.get("Q.cross") or sizes.get("Q.self")):
        return []
    heads, lines = config.heads, []
    key, _ = config.found["heads"]
    if queries % heads:
        return [Line("config", key, str(heads), f"a divisor of {queries}, the queries' width")]
    size, keys = queries // heads, sizes.get("K.cross") or sizes.get("K.self", queries)
    known = sizes["H"] if "H" in sizes else queries // sizes["D"] if "D" in sizes else heads
    if known != heads:
        lines.append(Line("config", key, str(heads), f"{known}, as the tensors have it"))
    wanted = {"head_size": size, "key_value_heads": keys / size}
    for what, number in wanted.items():
        if what in config.found and config.found[what][1] != number:
            key, value = config.found[what]
            needed = f"{number:g}: the tensors have {queries} for queries, {keys} for keys"
            lines.append(Line("config", key, str(value), f"{needed}, and {heads} heads"))
    return lines


def _of_module(config: Config, sizes: Mapping[str, int], inner: Any, module: Any) -> list[Line]:
    """The fields of a module against what a config and tensors say."""
    says = {what: (one, f"as config.json has {key}") for what, (key, one) in config.found.items()}
    says |= {what: (size, "as the tensors have it") for what, size in sizes.items()}
    design = getattr(inner, "config", None) or getattr(inner, "reading", None)
    own: dict[str, Any] = {
        "heads": getattr(inner, "heads", None),
        "M": getattr(inner, "width", None),
        "layers": getattr(inner, "layers", None),
        "W": getattr(module, "vocab_size", None),
        "P" if hasattr(module, "vocab_size") else "S": getattr(module, "length", None),
    }
    cross = getattr(design, "cross_attention", inner)
    shared = getattr(cross, "key_value_heads", None)
    own["key_value_heads"] = shared or own["heads"]
    lines = [
        Line("module", FIELDS.get(what, what), str(one), f"{says[what][0]}, {says[what][1]}")
        for what, one in own.items()
        if one is not None and what in says and one != says[what][0]
    ]
    numbers = {"epsilon": getattr(module, "epsilon", None)}
    if design is not None:
        numbers["config.residual.epsilon"] = design.residual.epsilon
        logits = getattr(cross, "logits", None)
        if logits is not None and logits.norm is not None:
            numbers["config.cross_attention.logits.epsilon"] = logits.epsilon
    field, feed = ("activation", getattr(module, "activation", None))
    if design is not None:
        field, feed = "config.mlp.activation", design.mlp.activation
    if _feeds(sizes) and feed not in (None, config.activation) and "activation" in says:
        lines.append(Line("module", field, feed, ", ".join(says["activation"])))
    for field, one in numbers.items():
        wanted = config.epsilon
        if one is not None and wanted is not None and not math.isclose(one, wanted):
            lines.append(Line("module", field, f"{one:g}", f"{wanted:g}, {says['epsilon'][1]}"))
    return lines


def _inner(module: Any) -> Any:
    """The part of a module that has heads."""
    for name in ("stack", "reader", "layer"):
        if not hasattr(module, "heads") and hasattr(module, name):
            return _inner(getattr(module, name))
    return module


def _feeds(sizes: Mapping[str, int]) -> bool:
    """Whether there are feed-forward layers among the tensors."""
    return any(letter.startswith("F.") for letter in sizes)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
