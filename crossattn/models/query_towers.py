"""Pictures and texts compared by learned queries: BLIP-2's first stage."""

from typing import Any

import jax.numpy as jnp

from crossattn.models.dual_towers import unit_length
from crossattn.models.image_tower import ImageTower
from crossattn.nn.context import words
from crossattn.nn.families.qformer import QFormer, joint_mask
from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import Module
from crossattn.nn.tables import Embed, exceeds, in_table, nan_from
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["QueryTowers"]


class QueryTowers(Module):
    """A vision tower, and a Q-Former whose queries read it and whose words stand beside them.

    (BLIP-2: Li et al. 2023, section 3.1.) Apart, both are vectors that are compared; together, the
    queries, which see the words, say whether they belong to the picture.

    Attributes:
      image: whose tokens the queries read.
      qformer: with its queries.
      vocab_size: V.
      length: positions of words there are.
      size: D.

    Example:
      >>> import jax
      >>> from crossattn.nn import Stack, presets
      >>> image = ImageTower(Stack(1, 12, 2, presets.TEXT), patch_size=4, grid=(2, 2))
      >>> qformer = presets.build("qformer", width=8, heads=2, layers=2, queries=3)
      >>> model = QueryTowers(image, qformer, vocab_size=11, length=6, size=5)
      >>> given = jnp.ones((4, 8, 8, 3)), jnp.ones((4, 5), int), jnp.ones((4, 5), bool)
      >>> logits, _ = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), *given))
      >>> logits.shape
      (4, 2)
    """

    image: ImageTower
    qformer: QFormer
    vocab_size: int
    length: int
    size: int

    def setup(self):  # noqa: D102 - Linen calls it
        width = self.qformer.width
        self.words, self.places = Embed(self.vocab_size, width), Embed(self.length, width)
        self.image_projection, self.text_projection = Dense(self.size), Dense(self.size)
        self.match = Dense(2)

    def __call__(
        self,
        pixels: Float[Array, "B h w 3"],
        tokens: Int[Array, "B T"],
        there: Bool[Array, "B T"],
    ) -> Float[Array, "B 2"]:
        """Logits of each text not being, and being, about its picture.

        Args:
          pixels: a picture for each text.
          tokens: word ids.
          there: which words are there.
        """
        if self.is_initializing():  # all parameters
            self.image_features(pixels)
            self.text_features(tokens, there)
        R, (known, text) = self.qformer.queries, self._embedded(tokens)
        mask = joint_mask("bidirectional", R, tokens.shape[1], words=there)
        (queries, _), _ = self.qformer(self.image(pixels), text, self_mask=mask)
        logits = self.match(queries).mean(axis=1)
        return nan_from(logits[:, None], known.all(axis=1, keepdims=True))[:, 0]

    def image_features(self, pixels: Float[Array, "I h w 3"]) -> Float[Array, "I R D"]:
        """R vectors of length 1 for each picture."""
        (queries, _), _ = self.qformer(self.image(pixels))
        return unit_length(self.image_projection(queries))

    def looks(self, pixels: Float[Array, "I h w 3"]) -> Any:
        """Where the queries look, (I, H, R, S) of each layer that reads the picture."""
        _, traces = self.qformer(self.image(pixels))
        return tuple(trace.weights() for trace in traces)

    def text_features(
        self, tokens: Int[Array, "B T"], there: Bool[Array, "B T"]
    ) -> Float[Array, "B D"]:
        """A vector of length 1 for each text: the state of its first word."""
        known, text = self._embedded(tokens)
        mask = joint_mask("unimodal", self.qformer.queries, tokens.shape[1], words=there)
        # Words do not see the queries: what these read makes no difference.
        nothing = jnp.zeros((tokens.shape[0], 1, self.image.stack.width), text.dtype)
        found: Any = self.qformer(nothing, text, self_mask=mask)
        (_, states), _ = found
        features = unit_length(self.text_projection(states[:, 0]))
        return nan_from(features[:, None], known.all(axis=1, keepdims=True))[:, 0]

    def compare(
        self, images: Float[Array, "I R D"], texts: Float[Array, "B D"]
    ) -> Float[Array, "I B"]:
        """The largest cosine of a picture's vectors and a text's."""
        return jnp.einsum("ird,bd->irb", images, texts).max(axis=1)

    def _embedded(self, tokens):
        """Which words are known, and what the Q-Former reads of them."""
        tokens = words(tokens)
        T = tokens.shape[1]
        if exceeds(T, self.length):
            raise ValueError(f"{T} tokens, but there are positions for {self.length}")
        known = in_table("token", tokens, self.vocab_size)
        return known, self.words(tokens) + self.places(jnp.arange(T))[None]
