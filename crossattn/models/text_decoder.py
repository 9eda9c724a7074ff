"""A causal text decoder over any context: captions, translations, transcripts."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.attention import Projected
from crossattn.nn.interleaved import Interleaved
from crossattn.nn.linear import Dense
from crossattn.nn.norms import Norm
from crossattn.nn.stack import Stack
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Float, Int

__all__ = ["TextDecoder"]

Observe = Callable[[Trace], Any]


class TextDecoder(nn.Module):
    """Word and learned position embeddings, a stack, and logits by the same word embeddings.

    Attributes:
      stack: of the blocks, or groups of blocks that read images among blocks that read text.
      vocabulary: V.
      length: positions there are.
      first_norm: the embeddings are normed (BERT, BLIP).
      final_norm: what the stack returns is normed (designs whose norms stand before sublayers).
      transformed: a dense layer, a GELU and a norm stand before the logits, which have a bias
        (BERT, BLIP).
      epsilon: of these norms.

    Example:
      >>> import jax
      >>> from crossattn.nn.presets import DESIGNS
      >>> stack = Stack(layers=2, width=8, heads=2, design=DESIGNS["whisper"])
      >>> model = TextDecoder(stack, vocabulary=11, length=6)
      >>> tokens, sound = jnp.ones((2, 5), int), jnp.ones((2, 7, 8))
      >>> (logits, _), params = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), tokens, sound))
      >>> logits.shape
      (2, 5, 11)
    """

    stack: Stack | Interleaved
    vocabulary: int
    length: int
    first_norm: bool = False
    final_norm: bool = True
    transformed: bool = False
    epsilon: float = 1e-5

    def setup(self):  # noqa: D102 - Linen calls it
        width = self.stack.width
        self.words = nn.Embed(self.vocabulary, width)
        self.places = nn.Embed(self.length, width)
        if self.first_norm:
            self.norm_first = Norm(epsilon=self.epsilon)
        if self.final_norm:
            self.norm = Norm(epsilon=self.epsilon)
        if self.transformed:
            self.transform = Dense(width)
            self.transform_norm = Norm(epsilon=self.epsilon)
            self.bias = self.param("bias", nn.initializers.zeros, (self.vocabulary,))

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        context: Float[Array, "I S N"] | Projected,
        *,
        mask: Mask | None = None,
        observe: Observe = lambda trace: None,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Logits of the word after each token, and what was observed of each layer."""
        places = jnp.arange(tokens.shape[1])
        where: Any = {"mask": mask, "self_mask": Mask.causal(0)}
        where["query_positions"] = _coordinates(places)
        x, kept = self.stack(self._embedded(tokens, places), context, **where, observe=observe)
        return self._logits(x), kept

    def project(self, context: Float[Array, "B S N"], *, mask: Mask | None = None) -> Projected:
        """Keys and values of the context for every layer; what `mask` hides stays hidden."""
        return self.stack.project(context, mask=mask)

    def start(self, rows: int, length: int) -> Any:
        """An empty past of `rows` texts of up to `length` words.

        Raises:
          ValueError: there are no positions for so many words.
        """
        if length > self.length:
            raise ValueError(f"{length} words, but this decoder has positions for {self.length}")
        return self.stack.start(rows, length)

    def step(
        self,
        tokens: Int[Array, " N"],
        place: Int[Array, ""],
        context: Projected,
        past: Any,
        *,
        mask: Mask | None = None,
        observe: Observe = lambda trace: None,
    ) -> tuple[Float[Array, "N V"], Any, Any]:
        """Logits of the word after `tokens`, which stand at `place`, as `__call__` has them."""
        where: Any = {"mask": mask, "query_positions": _coordinates(place[None])}
        x = self._embedded(tokens[:, None], place[None])
        x, past, kept = self.stack.step(x, context, past, place, **where, observe=observe)
        return self._logits(x)[:, 0], past, kept

    def _embedded(self, tokens, places):
        x = self.words(tokens) + self.places(places)[None]
        return self.norm_first(x) if self.first_norm else x

    def _logits(self, x):
        x = self.norm(x) if self.final_norm else x
        if not self.transformed:
            return self.words.attend(x)
        x = self.transform_norm(nn.gelu(self.transform(x), approximate=False))
        return self.words.attend(x) + self.bias.astype(x.dtype)[None, None]


def _coordinates(places: Array) -> Array:
    """For designs that turn words by their places; others do nothing with them."""
    return places.astype(jnp.float32)[None, :, None]
