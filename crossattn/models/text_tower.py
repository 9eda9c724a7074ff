"""A text encoder: those of CLIP and SigLIP, and BLIP's, which reads a picture."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from crossattn.nn.context import words
from crossattn.nn.dtypes import promoted
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import Embed, exceeds, in_table, nan_from
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["TextTower"]


class TextTower(Module):
    """Word and learned position embeddings and a stack: the states of all words.

    Attributes:
      stack: of blocks; those with "cross" in their order read a context.
      vocab_size: V.
      length: positions there are.
      causal: whether a word sees only those before it (CLIP).
      first_norm: the embeddings are normed (BERT, BLIP).
      final_norm: what the stack returns is normed (CLIP, SigLIP).
      epsilon: of these norms.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> tower = TextTower(Stack(2, 8, 2, presets.TEXT), vocab_size=11, length=6, causal=True)
      >>> (states, _), _ = jax.eval_shape(
      ...     lambda: tower.init_with_output(jax.random.key(0), jnp.ones((3, 5), int)))
      >>> states.shape
      (3, 5, 8)
    """

    stack: Stack
    vocab_size: int
    length: int
    causal: bool = False
    first_norm: bool = False
    final_norm: bool = True
    epsilon: float = 1e-5

    def setup(self):  # noqa: D102 - Linen calls it
        width = self.stack.width
        self.words = Embed(self.vocab_size, width)
        self.places = Embed(self.length, width)
        if self.first_norm:
            self.norm_first = Norm(epsilon=self.epsilon)
        if self.final_norm:
            self.norm = Norm(epsilon=self.epsilon)

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        context: Float[Array, "B S N"] | None = None,
        *,
        there: Bool[Array, "B T"] | None = None,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """The state of each word, and what was observed of each layer that reads the context.

        Args:
          tokens: word ids.
          context: what the blocks read, where they read anything.
          there: which words are there: the others are seen by none; all when None.
          mask: what of the context the words may see.
          observe: applied to the trace of each layer's attention to the context.

        Raises:
          ValueError: more words than positions, or one outside of the vocabulary if it is known; if
            not, the states are NaN from there on.
          TypeError: blocks that read, and no context.
        """
        tokens = words(tokens)
        T = tokens.shape[1]
        if exceeds(T, self.length):
            raise ValueError(f"{T} tokens, but this tower has positions for {self.length}")
        known = in_table("token", tokens, self.vocab_size)
        own = self.words(tokens), self.places(jnp.arange(T))[None]
        own_words, places, _ = promoted(None, *own, context)
        x = own_words + places
        x = self.norm_first(x) if self.first_norm else x
        seen = Mask.causal(0) if self.causal else None
        if there is not None:
            present = Mask.keys(jnp.asarray(there, bool))
            seen = present if seen is None else seen & present
        observing: Any = {"observe": observe} if self.stack.config.reads else {}
        x, kept = self.stack(x, context, mask=mask, self_mask=seen, **observing)
        return nan_from(self.norm(x) if self.final_norm else x, known), kept
