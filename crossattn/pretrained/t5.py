"""T5 and T5 1.1 (Raffel et al. 2020, arXiv:1910.10683): one text is read, another is written."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.interop import huggingface
from crossattn.interop.files import WeightsError
from crossattn.models.encoder_decoder import EncoderDecoder
from crossattn.models.text_decoder import TextDecoder
from crossattn.models.text_encoder import TextEncoder
from crossattn.nn import AttentionConfig, MLPConfig, Stack, presets
from crossattn.nn.layers.positions import RelativeBias
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.text_to_text import TextToText
from crossattn.pretrained.towers import Sizes

__all__ = ["load_t5", "t5_model"]

LAYOUT = "t5_encoder_decoder"
SIZES = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "vocab_size")
HEAD = "lm_head.weight"
# What the class takes where config.json says nothing.
DEFAULTS = {
    **{"layer_norm_epsilon": 1e-6, "feed_forward_proj": "relu"},
    **{"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128},
}


def load_t5(checkpoint: Checkpoint, *, dtype: Any = jnp.float32) -> TextToText:
    """A T5 of `T5ForConditionalGeneration`, tied or untied, gated or not; in `dtype`.

    Raises:
      WeightsError: config.json lacks a size, or says what no T5 has.
      ImportMismatchError: the tensors are not those that config.json speaks of.
    """
    config, tensors = checkpoint.config, checkpoint.tensors
    untied = config.get("tie_word_embeddings") is False
    if HEAD in tensors and "shared.weight" in tensors:  # transformers 5 says that all are tied
        untied |= not np.array_equal(tensors[HEAD], tensors["shared.weight"])
    model = t5_model(config, untied=untied, where=checkpoint.where)
    one = jnp.ones((1, 1), jnp.int32)
    like = jax.eval_shape(model.init, jax.random.key(0), one, one)
    params = huggingface.load(tensors, LAYOUT, like=like)
    numbers = {name: config.get(f"{name}_token_id") for name in ("pad", "eos")}
    return TextToText(
        model,
        jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params),
        start=config.get("decoder_start_token_id", numbers["pad"] or 0),
        end=1 if numbers["eos"] is None else numbers["eos"],
        pad=numbers["pad"] or 0,
        checkpoint=checkpoint,
    )


def t5_model(config: dict[str, Any], *, untied: bool = False, where: str = ".") -> EncoderDecoder:
    """The module of a config.json.

    Args:
      config: its content.
      untied: the words have vectors of their own in the logits.
      where: its folder, for messages.

    Raises:
      WeightsError: it lacks a size, or says what no T5 has.

    >>> t5_model({"d_model": 8, "d_kv": 4, "d_ff": 16, "num_heads": 2})
    Traceback (most recent call last):
    crossattn.interop.files.WeightsError: config.json has no num_layers, vocab_size
    """
    if missing := [name for name in SIZES if not isinstance(config.get(name), int)]:
        raise WeightsError(f"config.json has no {', '.join(missing)}")
    sizes = Sizes(config, DEFAULTS, where)
    width, heads = sizes.whole("d_model"), sizes.whole("num_heads")
    epsilon, design = sizes.number("layer_norm_epsilon"), _design(sizes)
    buckets = sizes.whole("relative_attention_num_buckets", least=4)
    # Half of the buckets of a decoder have one distance each.
    longest = sizes.whole("relative_attention_max_distance", least=buckets // 2 + 1)
    shared: dict[str, Any] = {"length": None, "norm_kind": "rms", "positions": None}
    shared |= {"epsilon": epsilon}
    relative = lambda both: RelativeBias(heads, buckets, longest, both)
    reading = dataclasses.replace(design, order=("self", "mlp"))
    layers = sizes.whole("num_layers")
    decoder_layers = (
        sizes.whole("num_decoder_layers") if config.get("num_decoder_layers") else layers
    )
    return EncoderDecoder(
        TextEncoder(
            Stack(layers, width, heads, reading),
            vocab_size=None,
            relative=relative(True),
            **shared,
        ),
        TextDecoder(
            Stack(decoder_layers, width, heads, design),
            vocab_size=sizes.whole("vocab_size"),
            relative=relative(False),
            untied=untied,
            logits_scale=width**-0.5 if _scaled(config) else 1.0,
            **shared,
        ),
    )


def _scaled(config: dict[str, Any]) -> bool:
    """Whether logits have a factor: T5 1.1 has none, and says instead that it is untied."""
    untied = config.get("tie_word_embeddings") is False
    return config.get("scale_decoder_outputs", not untied)


def _design(sizes: Sizes) -> Any:
    """Of the blocks of the decoder."""
    activation = sizes.activation("feed_forward_proj")
    preset = presets.config("t5")
    attention: AttentionConfig = dataclasses.replace(
        preset.cross_attention, head_size=sizes.whole("d_kv")
    )
    return dataclasses.replace(
        preset,
        order=("self", "cross", "mlp"),
        residual=dataclasses.replace(preset.residual, epsilon=sizes.number("layer_norm_epsilon")),
        self_attention=attention,
        cross_attention=attention,
        mlp=MLPConfig(
            sizes.whole("d_ff") / sizes.whole("d_model"),
            activation,
            gated=sizes.values["feed_forward_proj"].startswith("gated-"),
            use_bias=False,
        ),
    )
