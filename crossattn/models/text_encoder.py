"""A text, or any line of tokens, as vectors for a decoder to read."""

from typing import Any, Literal

import jax.numpy as jnp

from crossattn.nn.config import NormKind
from crossattn.nn.context import words
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.positions import RelativeBias
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import Embed, exceeds, in_table, nan_from
from crossattn.ops import Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["TextEncoder"]


class TextEncoder(Module):
    """Words and positions, and a stack that reads no context (Vaswani et al. 2017; T5).

    Attributes:
      stack: of blocks of the order ("self", "mlp").
      vocab_size: V; None where the words are somebody else's, whose vectors are then given.
      length: positions there are; None, where they are not learned: as many as one likes.
      final_norm: what the stack returns is normed.
      epsilon, norm_kind: of this norm.
      positions, relative, embedding_scale: as those of `TextDecoder`.

    Raises:
      ValueError: a stack that reads a context; learned positions without a length.

    Example:
      >>> import jax
      >>> from dataclasses import replace
      >>> from crossattn.nn import presets
      >>> design = replace(presets.config("t5"), order=("self", "mlp"))
      >>> bias = RelativeBias(heads=2, both=True)
      >>> model = TextEncoder(Stack(2, 8, 2, design), 11, None, norm_kind="rms", positions=None,
      ...                     relative=bias)
      >>> tokens, seen = jnp.ones((2, 5), int), Mask.lengths(key=jnp.array([5, 3]))
      >>> x, _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), tokens, mask=seen))
      >>> x.shape
      (2, 5, 8)
    """

    stack: Stack
    vocab_size: int | None
    length: int | None
    final_norm: bool = True
    epsilon: float = 1e-6
    norm_kind: NormKind = "layer"
    positions: Literal["learned"] | None = "learned"
    relative: RelativeBias | None = None
    embedding_scale: float = 1.0

    def setup(self):  # noqa: D102 - Linen calls it
        if self.stack.config.reads:
            raise ValueError('an encoder reads no context: give its stack order=("self", "mlp")')
        width = self.stack.width
        if self.vocab_size is not None:
            self.words = Embed(self.vocab_size, width)
        if self.positions is not None:
            if self.length is None:
                raise ValueError("positions are learned: give length, how many there are")
            self.places = Embed(self.length, width)
        if self.final_norm:
            self.norm = Norm(self.norm_kind, self.epsilon)

    def __call__(
        self, tokens: Int[Array, "B S"], *, table: Embed | None = None, mask: Mask | None = None
    ) -> Float[Array, "B S M"]:
        """What the tokens are after all layers.

        Args:
          tokens: (B, S).
          table: the words, where the encoder has none of its own.
          mask: which tokens are there, a mask of keys: others influence none of them.

        Returns:
          The stream, which is NaN from a token outside of the vocabulary on, where the tokens are
          known only when the program runs.

        Raises:
          ValueError: more tokens than positions, or one outside of the vocabulary if it is known.
        """
        tokens = words(tokens)
        table, S = self.words if table is None else table, tokens.shape[1]
        if exceeds(S, self.length):
            raise ValueError(f"{S} tokens, but this encoder has positions for {self.length}")
        there, places = in_table("token", tokens, table.count), jnp.arange(S)
        x = table(tokens)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        if self.positions is not None:
            x = x + self.places(places)[None]
        where: dict[str, Any] = {"self_mask": mask}
        if self.relative is not None:
            where["self_bias"] = self.relative(places, S)
        x, _ = self.stack(x, None, **where)
        x = self.norm(x) if self.final_norm else x
        return nan_from(x, there)
