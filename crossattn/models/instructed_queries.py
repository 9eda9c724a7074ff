"""Queries that read a picture for what an instruction asks."""

from typing import Any

import jax.numpy as jnp

from crossattn.nn.context import words
from crossattn.nn.families.qformer import QFormer, joint_mask
from crossattn.nn.module import Module
from crossattn.nn.tables import Embed, exceeds, in_table, nan_from
from crossattn.ops import Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["InstructedQueries"]


class InstructedQueries(Module):
    """A Q-Former whose queries read the words of an instruction besides (InstructBLIP).

    (Dai et al. 2023, arXiv:2305.06500, section 2.3.)

    Attributes:
      qformer: of the queries and the words.
      vocab_size: V.
      length: positions there are for words.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> qformer = presets.build("qformer", width=8, heads=2, layers=2, queries=3)
      >>> model = InstructedQueries(qformer, vocab_size=11, length=6)
      >>> picture, tokens = jnp.ones((2, 7, 5)), jnp.ones((2, 4), int)
      >>> (queries, traces), _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), picture, tokens))
      >>> queries.shape, len(traces)
      ((2, 3, 8), 1)
    """

    qformer: QFormer
    vocab_size: int
    length: int

    def setup(self):  # noqa: D102 - Linen calls it
        self.words = Embed(self.vocab_size, self.qformer.width)
        self.places = Embed(self.length, self.qformer.width)

    def __call__(
        self,
        context: Float[Array, "B S N"],
        tokens: Int[Array, "B T"],
        *,
        there: Bool[Array, "B T"] | None = None,
        mask: Mask | None = None,
    ) -> tuple[Float[Array, "B R M"], Any]:
        """What the queries have read, and the traces of their attention to the context.

        Args:
          context: the picture.
          tokens: the instruction.
          there: which of its words are there; all when None.
          mask: which tokens of the context are there.

        Returns:
          The queries, which are NaN where a word is outside of the vocabulary and that is known
          only when the program runs; a trace of each layer that reads the context.

        Raises:
          ValueError: more words than positions, or one outside of the vocabulary if it is known.
        """
        tokens = words(tokens)
        T = tokens.shape[1]
        if exceeds(T, self.length):
            raise ValueError(f"{T} words, but there are positions for {self.length}")
        known = in_table("token", tokens, self.vocab_size).all(axis=1, keepdims=True)
        text = self.words(tokens) + self.places(jnp.arange(T))[None]
        seen = joint_mask("bidirectional", self.qformer.queries, T, words=there)
        (queries, _), traces = self.qformer(context, text, mask=mask, self_mask=seen)
        return nan_from(queries, jnp.broadcast_to(known, queries.shape[:2])), traces
