"""An encoder of sound and the text decoder that reads it, as one module."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn.models.text_decoder import TextDecoder
from crossattn.nn.module import Module
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["SpeechModel"]


class SpeechModel(Module):
    """Logits of words about a sound, or what else the encoder makes a context of.

    Attributes:
      encoder: a module of which a call returns context tokens (B, S, N).
      decoder: the text decoder.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import Stack, presets
      >>> from crossattn.nn.layers.dense import Dense
      >>> stack = Stack(layers=1, width=8, heads=2, config=presets.config("whisper"))
      >>> model = SpeechModel(Dense(8), TextDecoder(stack, vocab_size=11, length=6))
      >>> inputs = jnp.ones((2, 7, 3)), jnp.ones((2, 5), int)
      >>> (logits, _), params = jax.jit(model.init_with_output)(jax.random.key(0), *inputs)
      >>> logits.shape, sorted(params["params"])
      ((2, 5, 11), ['decoder', 'encoder'])
    """

    encoder: nn.Module
    decoder: TextDecoder

    def __call__(
        self,
        inputs: Float[Array, "..."],
        tokens: Int[Array, "B T"],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Logits of the word after each token, and what was observed of each layer's attention.

        `mask` is of the context; see `TextDecoder`.
        """
        return self.decoder(tokens, self.encode(inputs), mask=mask, observe=observe)

    def encode(self, inputs: Float[Array, "..."]) -> Float[Array, "B S N"]:
        """The context tokens."""
        return self.encoder(inputs)

    def read(self, tokens: Int[Array, "B T"], context: Any, **given: Any) -> Any:
        """`__call__` of the decoder, over what `encode` made."""
        return self.decoder(tokens, context, **given)

    def project(self, context: Float[Array, "B S N"], **given: Any) -> Any:
        """`project` of the decoder: keys and values of what `encode` made."""
        return self.decoder.project(context, **given)

    def init_cache(self, rows: int, length: int, **given: Any) -> Any:
        """`init_cache` of the decoder."""
        return self.decoder.init_cache(rows, length, **given)

    def decode_step(
        self, tokens: Any, context: Any, cache: Any, position: Any, **given: Any
    ) -> Any:
        """`decode_step` of the decoder."""
        return self.decoder.decode_step(tokens, context, cache, position, **given)
