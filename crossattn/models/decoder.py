"""One decoder that answers questions and writes captions about an image with the same weights."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.models.image_attention import ImageAttention
from crossattn.nn import (
    BidirectionalAttention,
    CoAttention,
    DecoderStack,
    Dense,
    PatchEncoder,
    PrefixStack,
    Resampler,
    TwoStreamStack,
)
from crossattn.nn.context import words
from crossattn.nn.layers.patch_encoder import ImageEncoder
from crossattn.nn.module import Module
from crossattn.nn.tables import Embed, learned, nan_from, within
from crossattn.ops import Mask
from crossattn.shapes import Array, Bool, Float, Int
from crossattn.sharding import ContextParallel

Fusion = Literal[
    "blind",
    "mean-pool",
    "single-stream",
    "cross-attention",
    "co-attention",
    "bidirectional",
    "resampler",
    "oracle-attention",
]
Context = Literal["image", "boxes"]
EXCHANGES = {"co-attention": CoAttention, "bidirectional": BidirectionalAttention}

# Variants whose only key is a pooled vector, or none: there are no patches to look at.
POOLED = ("blind", "mean-pool")

Observe = Callable[[ImageAttention], Any]


def _nothing(attention: ImageAttention) -> None:
    """Observe nothing."""


class VisionLanguageDecoder(Module):
    """A causal text decoder that is joined to image patches in one of several ways.

    The way is one field, `fusion`:

    * "cross-attention": every layer reads the patches; every patch is a key.
    * "mean-pool": the same with one key, the mean of the patches.
    * "blind": the same with no key at all; the output of an empty context is exactly zero.
    * "oracle-attention": the same, but position t sees only the true region of the word that it
      predicts, or of the word that it has read where the former has none (everything where neither
      has): an upper bound that is told the alignment.
    * "single-stream": patches and words are one stream under self-attention; patches come first and
      see one another.
    * "co-attention": words and patches are two streams that read each other in every layer.
    * "bidirectional": the same through one product for both directions.
    * "resampler": a few latents read the patches, every layer reads the latents.

    The first four have the same parameters (names, shapes and initial values): only what the
    cross-attention can see differs. A patch may read words only before the first word to predict.

    Attributes:
      vocabulary: number of words.
      width: M.
      layers: L.
      heads: H.
      expansion: hidden width of the feed-forward layers, in units of M.
      fusion: see above.
      latents: number of latents of "resampler".
      contexts: modalities beside the text; their tokens stand side by side in one context.
      image_encoder: kind of the `PatchEncoder`.
      cell: side of a cell of pixels.
      device_layout: how words and context lie over devices where either reads the other.
    """

    vocabulary: int
    width: int = 64
    layers: int = 2
    heads: int = 4
    expansion: int = 2
    fusion: Fusion = "cross-attention"
    latents: int = 16
    contexts: tuple[Context, ...] = ("image",)
    image_encoder: ImageEncoder = "oracle"
    cell: int = 8
    device_layout: ContextParallel | None = None

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B T"],
        images: Array,
        *,
        visible: Bool[Array, "*L I P"],
        truth: Bool[Array, "B T P"],
        prompt: Bool[Array, "B T"],
        boxes: Float[Array, "I O C"] | None = None,
        observe: Observe = _nothing,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Predict the next word at every position.

        Args:
          tokens: word ids (B, T), T being what the parameters were made for. From an id outside of
            the vocabulary on the logits are NaN; one that is known before `jit` is refused.
          images: (I, P, F) symbolic features or (I, h, w, 3) pictures; B = I times the number of
            texts per image, the texts of one image being neighbours.
          visible: patches of each image that may be read at all, by every layer or, with a leading
            axis L, by each: knock-outs are data.
          truth: patches of the region that position t is about, read by "oracle-attention" only.
          prompt: words that stand before the first word to predict.
          boxes: a third modality, tokens (I, O, C) of which those that are all zero are absent.
          observe: applied to what the words of each layer see of the image.

        Returns:
          Logits (B, T, V) and the observations of each layer, with a leading axis L. In an
          `ImageAttention` the images are the batch and all words of an image's texts its T; under
          "co-attention" and "bidirectional" the texts are the batch.

        Raises:
          ValueError: an unknown fusion, ids outside of the vocabulary where they are known, tokens
            or patches that the parameters have no positions for.
        """
        if self.fusion not in get_args(Fusion):
            raise ValueError(
                f"unknown fusion {self.fusion!r}: one of {', '.join(get_args(Fusion))}"
            )
        tokens = words(tokens)
        there = within("token", tokens, self.vocabulary)
        x = Embed(self.vocabulary, self.width, name="words")(tokens)
        # As small as the embedding of a word: larger positions drown the words.
        shape = tokens.shape[1], self.width
        place = learned(self, "position", nn.initializers.normal(0.1), shape)
        sizes = (self.width, self.image_encoder, self.cell)
        encoder = PatchEncoder(*sizes, self.device_layout, name="encoder")
        patches = encoder(images)
        context, seen = self._joined(patches, visible, boxes)
        read = {
            "single-stream": self._single_stream,
            "co-attention": self._two_streams,
            "bidirectional": self._two_streams,
            "resampler": self._resampled,
        }.get(self.fusion, self._decoded)
        x, observed = read(x + place[None], context, seen, truth, prompt, patches.shape[1], observe)
        x = nn.LayerNorm(name="norm")(x)
        return nan_from(Dense(self.vocabulary, name="logits")(x), there), observed

    def _joined(self, patches, visible, boxes):
        """All context tokens (I, S, M), and which are seen by all or by each layer (1|L, I, S)."""
        visible = visible.reshape(-1, *visible.shape[-2:])
        if "image" not in self.contexts:
            visible = jnp.zeros_like(visible)
        if "boxes" not in self.contexts:
            return patches, visible
        if boxes is None:
            raise ValueError('contexts has "boxes", but these data have none: scenes have one')
        tokens = nn.LayerNorm(name="layout_norm")(Dense(self.width, name="layout")(boxes))
        there = jnp.any(boxes != 0, axis=-1)
        there = jnp.broadcast_to(there, (visible.shape[0], *there.shape))
        return jnp.concatenate([patches, tokens], 1), jnp.concatenate([visible, there], 2)

    def _each(self, leaf):
        """What all layers share (1, ...) or each has (L, ...), for each of the layers."""
        return jnp.broadcast_to(leaf, (self.layers, *leaf.shape[1:]))

    def _stack(self):
        # A single key is on every device.
        layout = None if self.fusion in POOLED else self.device_layout
        sizes = (self.layers, self.width, self.heads, self.expansion)
        return DecoderStack(*sizes, layout, name="stack")

    def _decoded(self, x, context, seen, truth, prompt, P, observe):
        """Decoder blocks over patches, over their mean, or over nothing."""
        mask = None
        if self.fusion in POOLED:
            context, seen = self._pooled(context, seen)
            P = 1
        elif self.fusion == "oracle-attention":
            truth = truth.reshape(context.shape[0], -1, truth.shape[-1])
            somewhere = jnp.any(truth, axis=-1, keepdims=True)
            other = jnp.ones((*truth.shape[:2], context.shape[1] - P), bool)
            mask = Mask.dense(jnp.concatenate([truth | ~somewhere, other], axis=-1)[:, None])
        look = lambda trace: observe(ImageAttention(trace, patches=P))
        return self._stack()(
            x, context, self_mask=Mask.causal(0), mask=mask, seen=self._each(seen), observe=look
        )

    def _pooled(self, context, seen):
        """The mean of what is seen (I, 1, M), for each layer where they differ, and if it is."""
        weight = seen.astype(context.dtype)
        total = jnp.maximum(weight.sum(axis=2, keepdims=True), 1.0)
        pooled = jnp.einsum("lis,ism->lim", weight / total, context)[:, :, None]
        pooled = pooled[0] if pooled.shape[0] == 1 else pooled
        anything = jnp.any(seen, axis=2, keepdims=True)
        return pooled, anything if self.fusion == "mean-pool" else jnp.zeros_like(anything)

    def _single_stream(self, x, context, seen, truth, prompt, P, observe):
        """Words behind the context tokens, in one stream."""
        sizes = (self.layers, self.width, self.heads, self.expansion)
        stack = PrefixStack(*sizes, self.device_layout, name="stack")
        look = lambda trace: observe(ImageAttention(trace, patches=P))
        return stack(x, context, seen=self._each(seen), observe=look)

    def _two_streams(self, x, context, seen, truth, prompt, P, observe):
        """Every text has a context stream of its own, since that reads the text."""
        texts = x.shape[0] // context.shape[0]
        stack = TwoStreamStack(
            self.layers,
            self.width,
            self.heads,
            self.expansion,
            exchange=partial(EXCHANGES[self.fusion], layout=self.device_layout),
            name="stack",
        )
        return stack(
            x,
            jnp.repeat(context, texts, axis=0),
            prompt=prompt,
            seen=self._each(jnp.repeat(seen, texts, axis=1)),
            mask=Mask(),
            observe=lambda trace: observe(ImageAttention(trace, patches=P)),
        )

    def _resampled(self, x, context, seen, truth, prompt, P, observe):
        """Every layer reads latents of what it sees, made once where all layers see the same."""
        sizes = (self.latents, self.width, self.heads, self.expansion)
        resampler = Resampler(*sizes, self.device_layout, name="resampler")
        every = jnp.broadcast_to(context, (seen.shape[0], *context.shape))
        flat = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])
        by_layer = lambda leaf: self._each(leaf.reshape(*seen.shape[:2], *leaf.shape[1:]))
        latents, inner = resampler(flat(every), mask=Mask.keys(flat(seen)))
        return self._stack()(
            x,
            by_layer(latents),
            self_mask=Mask.causal(0),
            beside=jax.tree.map(by_layer, inner),
            observe=lambda trace, inner: observe(ImageAttention(trace, through=inner, patches=P)),
        )
