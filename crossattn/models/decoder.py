"""One decoder that answers questions and writes captions about an image with the same weights."""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn import DecoderStack, Dense, PatchEncoder
from crossattn.nn.encoders import Perception
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Bool, Float, Int

Fusion = Literal["blind", "mean-pool", "cross-attention", "oracle-attention"]


class VisionLanguageDecoder(nn.Module):
    """A causal text decoder whose every layer reads image patches by cross-attention.

    How text and image are joined is one field, `fusion`. The parameters are the same in all
    variants (same names, shapes and initial values): only what the cross-attention can see differs.

    * "cross-attention": every patch is a key.
    * "mean-pool": the only key is the mean of the patches.
    * "blind": no key at all; the output of an empty context is exactly zero.
    * "oracle-attention": position t sees only the true region of the word that it predicts, or of
      the word that it has read where the former has none (everything where neither has): an upper
      bound that is told the alignment.

    Attributes:
      vocabulary: number of words.
      width: M.
      layers: L.
      heads: H.
      expansion: hidden width of the feed-forward layers, in units of M.
      fusion: see above.
      perception: see `PatchEncoder`.
      cell: side of a cell of pixels.
    """

    vocabulary: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    expansion: int = 2
    fusion: Fusion = "cross-attention"
    perception: Perception = "oracle"
    cell: int = 8

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        images: Array,
        *,
        visible: Bool[Array, "I P"],
        truth: Bool[Array, "B T P"],
        observe: Callable[[Trace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Predict the next word at every position.

        Args:
          tokens: word ids (B, T).
          images: (I, P, F) symbolic features or (I, h, w, 3) pictures; B = I times the number of
            texts per image, the texts of one image being neighbours.
          visible: patches of each image that may be read at all: knock-outs are data.
          truth: patches of the region that position t is about, read by "oracle-attention" only.
          observe: applied to the trace of each layer's cross-attention.

        Returns:
          Logits (B, T, V) and the observations of each layer, with a leading axis L. A trace has
          the images as its batch and all queries of an image's texts as its T.
        """
        if self.fusion not in get_args(Fusion):
            raise ValueError(
                f"unknown fusion {self.fusion!r}: one of {', '.join(get_args(Fusion))}"
            )
        x = nn.Embed(self.vocabulary, self.width, name="words")(tokens)
        # As small as the embedding of a word: larger positions drown the words.
        place = self.param("position", nn.initializers.normal(0.1), (tokens.shape[1], self.width))
        encoder = PatchEncoder(self.width, self.perception, self.cell, name="encoder")
        context, mask = self._see(encoder(images), visible, truth)
        stack = DecoderStack(self.layers, self.width, self.heads, self.expansion, name="stack")
        x, observed = stack(
            x + place[None], context, self_mask=Mask.causal(0), mask=mask, observe=observe
        )
        x = nn.LayerNorm(name="norm")(x)
        return Dense(self.vocabulary, name="logits")(x), observed

    def _see(self, context, visible, truth):
        """What the cross-attention of this variant can see: a context and a mask."""
        if self.fusion in ("mean-pool", "blind"):
            weight = visible.astype(context.dtype)[:, :, None]
            total = jnp.maximum(weight.sum(axis=1, keepdims=True), 1.0)
            pooled = (context * weight).sum(axis=1, keepdims=True) / total
            anything = jnp.any(visible, axis=1, keepdims=True)
            seen = anything if self.fusion == "mean-pool" else jnp.zeros_like(anything)
            return pooled, Mask.keys(seen)
        mask = Mask.keys(visible)
        if self.fusion == "oracle-attention":
            truth = truth.reshape(context.shape[0], -1, context.shape[1])
            somewhere = jnp.any(truth, axis=-1, keepdims=True)
            mask = mask & Mask.dense((truth | ~somewhere)[:, None])
        return context, mask
