"""Latents read a context, think, and are read by as many queries as there are outputs."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.block import Block
from crossattn.nn.context import words
from crossattn.nn.families.latents import Latents
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import Embed, exceeds, in_table, learned, nan_from
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["MaskedPerceiver", "PerceiverIO"]


class PerceiverIO(Module):
    """Any context in, any number of queries out (Jaegle et al. 2022, "Perceiver IO").

    Attributes:
      latents: that read the context; their reader is a `Block`, as of the preset perceiver_encode.
      stack: of the latents alone, of the order ("self", "mlp").
      writer: reads the latents, as of the preset perceiver_decode.
      repeats: how often the stack runs, with the same parameters.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> latents = Latents(4, Block(8, 2, presets.config("perceiver_encode")))
      >>> writer = Block(6, 2, presets.config("perceiver_decode"))
      >>> model = PerceiverIO(latents, Stack(2, 8, 2, presets.TEXT), writer)
      >>> context, queries = jnp.ones((3, 7, 5)), jnp.ones((3, 9, 6))
      >>> (y, traces), _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), context, queries))
      >>> y.shape
      (3, 9, 6)
    """

    latents: Latents
    stack: Stack
    writer: Block
    repeats: int = 1

    def __call__(
        self,
        context: Float[Array, "B S N"],
        queries: Float[Array, "B T M"],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], tuple[Any, Any]]:
        """What the queries have read.

        Args:
          context: (B, S, N).
          queries: (B, T, M), which do not see each other.
          mask: what of the context the latents may see.
          observe: applied to two traces: the latents' of the context, the queries' of the latents.

        Returns:
          The queries after they have read, and what was observed.
        """
        x, read = self.latents(context, mask=mask, observe=observe)
        for _ in range(self.repeats):
            x, _ = self.stack(x, None)
        trace: Any
        y, trace = self.writer(queries, x)
        return y, (read, observe(trace))


class MaskedPerceiver(Module):
    """Logits of the word at each place of a text, of which some are masked.

    Attributes:
      core: which reads the words and is asked for each place.
      vocab_size: V.
      length: places there are.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> latents = Latents(4, Block(8, 2, presets.config("perceiver_encode")))
      >>> writer = Block(6, 2, presets.config("perceiver_decode"))
      >>> core = PerceiverIO(latents, Stack(2, 8, 2, presets.TEXT), writer)
      >>> model = MaskedPerceiver(core, vocab_size=11, length=9)
      >>> (logits, _), params = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), jnp.ones((3, 5), int)))
      >>> logits.shape, sorted(params["params"])
      ((3, 5, 11), ['bias', 'core', 'places', 'queries', 'words'])
    """

    core: PerceiverIO
    vocab_size: int
    length: int

    def setup(self):  # noqa: D102 - Linen calls it
        width = self.core.writer.width
        self.words, self.places = Embed(self.vocab_size, width), Embed(self.length, width)
        self.queries = learned(self, "queries", nn.initializers.normal(0.02), (self.length, width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(
        self,
        tokens: Int[Array, "B S"],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B S V"], tuple[Any, Any]]:
        """Logits at each place, and what was observed; `mask` and `observe` as of `PerceiverIO`.

        They are NaN from a token outside of the vocabulary on, where the tokens are known only
        when the program runs.

        Raises:
          ValueError: more tokens than places, or one outside of the vocabulary if it is known.
        """
        tokens = words(tokens)
        S = tokens.shape[1]
        if exceeds(S, self.length):
            raise ValueError(f"{S} tokens, but this model has places for {self.length}")
        there = in_table("token", tokens, self.vocab_size)
        x = self.words(tokens) + self.places(jnp.arange(S))[None]
        queries = jnp.broadcast_to(self.queries[None, :S], x.shape)
        y, kept = self.core(x, queries, mask=mask, observe=observe)
        return nan_from(self.words.attend(y) + self.bias[None, None], there), kept
