"""Perceiver IO of texts (Jaegle et al. 2022, arXiv:2107.14795): PerceiverForMaskedLM."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.interop.files import WeightsError
from crossattn.models.perceiver import MaskedPerceiver, PerceiverIO
from crossattn.nn import AttentionConfig, presets
from crossattn.nn.block import Block
from crossattn.nn.config import BlockConfig
from crossattn.nn.families.latents import Latents
from crossattn.nn.stack import Stack
from crossattn.nn.tables import in_table
from crossattn.ops import Mask
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.towers import ModelPart, Sizes, load_parts

__all__ = ["ByteFiller", "load_perceiver", "perceiver_model"]

# What the class takes where config.json says nothing.
DEFAULTS = {
    **{"num_latents": 256, "d_latents": 1280, "d_model": 768, "num_blocks": 1},
    **{"num_self_attends_per_block": 26, "num_self_attention_heads": 8},
    **{"num_cross_attention_heads": 8, "cross_attention_shape_for_attention": "kv"},
    **{"self_attention_widening_factor": 1, "cross_attention_widening_factor": 1},
    **{"hidden_act": "gelu", "vocab_size": 262, "max_position_embeddings": 2048},
}
# Those of the class's own decoder, whatever config.json says.
WRITER_HEADS, WRITER_CHANNELS = 8, 256
PAD, MASKED, CLS, SEP, BYTES = 0, 3, 4, 5, 6


@dataclasses.dataclass(frozen=True)
class ByteFiller:
    """A model that knows texts as UTF-8 bytes, of which it fills in those that are masked.

    Attributes:
      model: the module.
      params: its parameters.
    """

    model: MaskedPerceiver
    params: Any

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, in which each "[MASK]" stands for a byte."""
        masked = [MASKED].__add__
        parts = [[byte + BYTES for byte in part.encode()] for part in text.split("[MASK]")]
        return [CLS, *parts[0], *(one for part in parts[1:] for one in masked(part)), SEP]

    def logits(self, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Of each row of tokens, (S, V).

        Raises:
          ValueError: a token is none of the model's, or a row is longer than its places.
        """
        if not rows:
            return []
        lengths = [len(row) for row in rows]
        filled = np.full((len(rows), max(lengths)), PAD, np.int32)
        for row, given in zip(filled, rows, strict=True):
            row[: len(given)] = given
        in_table("token", jnp.asarray(filled), self.model.vocab_size)
        found = np.asarray(self._apply(self.params, jnp.asarray(filled), jnp.asarray(lengths)))
        return [row[:count] for row, count in zip(found, lengths, strict=True)]

    def fill(self, text: str) -> str:
        """The text with the likeliest byte for each "[MASK]", all at once."""
        tokens = np.array(self.tokens(text))
        best = self.logits([tokens.tolist()])[0][:, BYTES : BYTES + 256].argmax(-1) + BYTES
        found = np.where(tokens == MASKED, best, tokens)[1:-1] - BYTES
        return bytes(found.tolist()).decode(errors="replace")

    @functools.cached_property
    def _apply(self) -> Any:
        def apply(params: Any, tokens: Any, lengths: Any) -> Any:
            return self.model.apply(params, tokens, mask=Mask.lengths(key=lengths))[0]

        return jax.jit(apply)


def load_perceiver(checkpoint: Checkpoint, *, dtype: Any = jnp.float32) -> ByteFiller:
    """A `ByteFiller`; its parameters are of `dtype`.

    Raises:
      WeightsError: config.json says what no such model has, or it is a Perceiver of another task.
      ImportMismatchError: tensors are missing, unknown or misshaped.
    """
    if "embedding_decoder.bias" not in checkpoint.tensors:
        kind = 'PerceiverForMaskedLM is loaded; of others the layout "perceiver" reads the encoder'
        raise WeightsError(f"{checkpoint.where} has no embedding_decoder.bias: {kind}")
    model = perceiver_model(Sizes(checkpoint.config, DEFAULTS, checkpoint.where))
    init = lambda: model.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32))
    like = dict(jax.eval_shape(init)["params"])
    core = like.pop("core")
    like |= {"latents": core["latents"]["latents"], "write": core["writer"]}
    encoder = {"read": core["latents"]["reader"], "blocks": core["stack"]["blocks"]}
    parts = [
        ModelPart("perceiver", "perceiver.encoder.", {"params": encoder}),
        ModelPart("perceiver_text", "", {"params": like}),
    ]
    encoder, rest = load_parts(checkpoint, parts, dtype=dtype)
    latents = {"latents": rest.pop("latents"), "reader": encoder["read"]}
    stack = {"blocks": encoder["blocks"]}
    core = {"latents": latents, "stack": stack, "writer": rest.pop("write")}
    return ByteFiller(model, {"params": {"core": core, **rest}})


def perceiver_model(sizes: Sizes) -> MaskedPerceiver:
    """The module of a config.json.

    Raises:
      WeightsError: a size or a word of it is not known.
    """
    width, words = sizes.whole("d_latents"), sizes.whole("d_model")
    keys, values = (sizes.values.get(f"{name}_channels") for name in ("qk", "v"))
    activation = sizes.activation("hidden_act")
    shape = sizes.values["cross_attention_shape_for_attention"]
    if shape not in ("q", "kv"):
        raise sizes.refused("cross_attention_shape_for_attention", "q or kv")

    def design(kind: str, heads: str | int, channels: Any, wider: int) -> tuple[int, BlockConfig]:
        count = heads if isinstance(heads, int) else sizes.whole(heads)
        if any(one % count for one in channels):
            raise WeightsError(f"{sizes.where}/config.json: {channels} channels of {count} heads")
        made: BlockConfig = presets.config(kind)
        attention = AttentionConfig(None, *(one // count for one in channels))
        mlp = dataclasses.replace(made.mlp, expansion=wider, activation=activation)
        both: dict[str, Any] = dict.fromkeys(("self_attention", "cross_attention"), attention)
        return count, dataclasses.replace(made, mlp=mlp, **both)

    of = lambda default: (keys or default, values or keys or default)
    wider = lambda side: sizes.whole(f"{side}_attention_widening_factor")
    read = of(width if shape == "q" else words)
    heads, reading = design("perceiver_encode", "num_cross_attention_heads", read, wider("cross"))
    if sizes.values.get("use_query_residual") is False:
        skip = presets.config("perceiver_decode").cross_residual
        reading = dataclasses.replace(reading, cross_residual=skip)
    count, own = design("perceiver_encode", "num_self_attention_heads", of(width), wider("self"))
    own = dataclasses.replace(own, order=("self", "mlp"), context_norm=None)
    eight, writing = design("perceiver_decode", WRITER_HEADS, (WRITER_CHANNELS, words), 1)
    core = PerceiverIO(
        Latents(sizes.whole("num_latents"), Block(width, heads, reading)),
        Stack(sizes.whole("num_self_attends_per_block"), width, count, own),
        Block(words, eight, writing),
        sizes.whole("num_blocks"),
    )
    return MaskedPerceiver(core, sizes.whole("vocab_size"), sizes.whole("max_position_embeddings"))
