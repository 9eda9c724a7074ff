"""A text is read by an encoder, and another is written that reads it: translations, T5."""

from collections.abc import Callable
from typing import Any

from crossattn.models.text_decoder import TextDecoder
from crossattn.models.text_encoder import TextEncoder
from crossattn.nn.attention import ProjectedContext
from crossattn.nn.module import Module
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["EncoderDecoder"]


class EncoderDecoder(Module):
    """An encoder, and a decoder that reads what it has made (Sutskever et al. 2014).

    Attributes:
      encoder: without words of its own (`vocab_size=None`) it has those of the decoder.
      decoder: which is cached, and steps, as a decoder alone.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from dataclasses import replace
      >>> from crossattn.nn import Stack, presets
      >>> design = presets.config("encoder_decoder_post")
      >>> reading = Stack(2, 8, 2, replace(design, order=("self", "mlp")))
      >>> model = EncoderDecoder(TextEncoder(reading, None, 9, final_norm=False),
      ...                        TextDecoder(Stack(2, 8, 2, design), 11, 6, final_norm=False))
      >>> source, tokens = jnp.ones((2, 7), int), jnp.ones((2, 5), int)
      >>> (logits, _), _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), source, tokens))
      >>> logits.shape
      (2, 5, 11)
    """

    encoder: TextEncoder
    decoder: TextDecoder

    def __call__(
        self,
        source: Int[Array, "B S"],
        tokens: Int[Array, "B T"],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Logits of the word after each of `tokens`, and what was observed of each layer.

        Args:
          source: what is read.
          tokens: what has been written.
          mask: which tokens of the source are there, a mask of keys.
          observe: applied to the trace of each layer's attention to the source.

        Raises:
          ValueError: as the encoder and the decoder.
        """
        context = self.encode(source, mask=mask)
        return self.decoder(tokens, context, mask=mask, observe=observe)

    def encode(
        self, source: Int[Array, "B S"], *, mask: Mask | None = None
    ) -> Float[Array, "B S M"]:
        """What the decoder reads of the source."""
        shared = self.decoder.words if self.encoder.vocab_size is None else None
        return self.encoder(source, table=shared, mask=mask)

    def project(self, source: Int[Array, "B S"], *, mask: Mask | None = None) -> ProjectedContext:
        """Its keys and values in every layer; what `mask` hides stays hidden."""
        return self.decoder.project(self.encode(source, mask=mask), mask=mask)

    def init_cache(self, rows: int, length: int, *, dtype: Any = None) -> Any:
        """See `TextDecoder.init_cache`."""
        return self.decoder.init_cache(rows, length, dtype=dtype)

    def decode_step(
        self,
        tokens: Int[Array, " *N"],
        context: ProjectedContext,
        cache: Any,
        position: Int[Array, ""],
        **how: Any,
    ) -> tuple[Float[Array, "*N V"], Any, Any]:
        """See `TextDecoder.decode_step`."""
        return self.decoder.decode_step(tokens, context, cache, position, **how)
