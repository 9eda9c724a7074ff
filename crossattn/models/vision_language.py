"""One decoder that answers questions and writes captions about an image with the same weights."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.core import meta

from crossattn.models.config import POOLED, VisionLanguageConfig
from crossattn.models.image_attention import ImageAttention
from crossattn.models.joining import Streams, connected, decoded
from crossattn.models.joining_streams import adapted, bottlenecked, prefixed, two_streams
from crossattn.models.joint_space import JointSpace
from crossattn.models.packed import PackedRows, check_packing, in_rows
from crossattn.models.vision_encoder import vision_encoder
from crossattn.nn import presets
from crossattn.nn.context import words
from crossattn.nn.head import Targets, cross_entropy
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.nn.tables import Embed, in_table, learned, nan_from
from crossattn.shapes import Array, Bool, Float, Int
from crossattn.sharding import ContextParallel

__all__ = ["VisionLanguageDecoder"]

JOINERS = {
    "decoder": decoded,
    "interleaved": decoded,
    "connector": connected,
    "two_stream": two_streams,
    "prefix": prefixed,
    "bottleneck": bottlenecked,
    "adapter": adapted,
}

Observe = Callable[[ImageAttention], Any]


def _nothing(attention: ImageAttention) -> None:
    """Observe nothing."""


class VisionLanguageDecoder(Module):
    """An image encoder, layers of any preset or block, and a head: the text is causal.

    Which streams there are, and who reads whom, is said by the preset's `use`:

    * "decoder": words read the context in every layer, or in every `cross_every`-th.
    * "interleaved": blocks that read the context stand among blocks of text (Flamingo).
    * "connector": learned latents read the context, an "encoder_decoder_pre" reads the latents.
    * "two_stream": every text has a context stream of its own, which reads the prompt.
    * "prefix": the context stands before the words in one stream.
    * "bottleneck": as two streams, which exchange through a few tokens.

    No word to predict reaches a position at or before the one that predicts it: what reads the
    text and is read by it reads the prompt alone.

    Attributes:
      vocab_size: V.
      config: all else.
      cell: side of a cell of pixels.
      layout: how words and context lie over devices where either reads the other.

    Example:
      >>> import jax
      >>> config = VisionLanguageConfig(preset="flamingo", width=8, heads=2)
      >>> model = VisionLanguageDecoder(11, config)
      >>> tokens, patches = jnp.ones((4, 5), int), jnp.ones((2, 7, 3))  # two texts of each image
      >>> (logits, _), params = jax.eval_shape(lambda: model.init_with_output(
      ...     jax.random.key(0), tokens, patches, visible=jnp.ones((2, 7), bool),
      ...     truth=jnp.ones((4, 5, 7), bool), prompt=jnp.ones((4, 5), bool)))
      >>> logits.shape
      (4, 5, 11)
    """

    vocab_size: int
    config: VisionLanguageConfig = VisionLanguageConfig()
    cell: int = 8
    layout: ContextParallel | None = None

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
        targets: Targets | None = None,
        last: Int[Array, " B"] | None = None,
        packed: Int[Array, "R L"] | None = None,
    ) -> tuple[Any, ...]:
        """Predict the next word at every position.

        Args:
          tokens: word ids (B, T), T being what the parameters were made for. From an id outside of
            the vocabulary on the logits are NaN; one that is known before `jit` is refused.
          images: (I, P, F) symbolic features or (I, h, w, 3) pictures; B = I times the number of
            texts per image, the texts of one image being neighbours.
          visible: patches of each image that may be read at all, by every layer that reads or, with
            a leading axis `config.reading_layers`, by each: knock-outs are data.
          truth: patches of the region that position t is about, read by context_view "truth" only.
          prompt: words that stand before the first word to predict.
          boxes: a third modality, tokens (I, O, C) of which those that are all zero are absent.
          observe: applied to what the words of each reading layer see of the image.
          targets: the words that follow: a loss is then returned instead of logits, which are
            never there all at once; of parameters that exist.
          last: the place of the last word of each text: `JointFeatures` are returned as well, of
            models with `config.embedding`.
          packed: where B / R neighbouring texts share a row: the numbers of their words that stand
            at each place of it, see `crossattn.data.packed_order.packed_places`. Logits are then
            (R, L, V), and so are targets.

        Returns:
          Logits (B, T, V), or what `crossattn.nn.head.cross_entropy` returns; and the observations
          of each reading layer, with a leading axis; with `last` the features, too.

        Raises:
          ValueError: ids outside of the vocabulary where they are known, tokens or patches that the
            parameters have no positions for, a preset that needs what the data have not; `last` of
            a model without features; `packed` of a model that `check_packing` refuses.
        """
        config, tokens = self.config, words(tokens)
        there = in_table("token", tokens, self.vocab_size)
        x = Embed(self.vocab_size, config.width, name="words")(tokens)
        # As small as the embedding of a word: larger positions drown the words.
        shape = tokens.shape[1], config.width
        place = learned(self, "position", nn.initializers.normal(0.1), shape)
        dtype = None if config.dtype == "float32" else jnp.dtype(config.dtype)
        visible = visible.reshape(-1, *visible.shape[-2:])
        encoder = vision_encoder(config, self.cell, self.layout)
        patches = encoder(images, visible.any(axis=0))
        context, seen = self._contexts(patches, visible, boxes)
        whole = context, seen
        patches_seen = patches.shape[1]
        if config.context_view in POOLED:
            context, seen = _pooled(context, seen, nothing=config.context_view == "none")
            patches_seen = 1
        x, rows = x + place[None], None
        if packed is not None:
            check_packing(config)
            rows = PackedRows(packed, tokens.shape[1], len(tokens), len(patches))
            x, there = in_rows(packed, x), in_rows(packed, there) | (packed < 0)
        x, context = (x, context) if dtype is None else (x.astype(dtype), context.astype(dtype))
        streams = Streams(
            config=config,
            x=x,
            place=place.astype(x.dtype),
            context=context,
            visible=seen,
            truth=truth if config.context_view == "truth" else None,
            prompt=prompt,
            patches=patches_seen,
            observe=observe,
            policy=self._policy(dtype),
            rows=rows,
        )
        joiner = JOINERS["connector" if config.connector else config.use]
        # Behind what is observed, designs with a half that reads the text alone have its words.
        x, observed, *alone = joiner(self, streams)
        features = self._features(whole, alone[0] if alone else x, x, last, streams.policy)
        return self._predicted(x, there, targets), observed, *features

    def _predicted(self, x, there, targets):
        """Logits, or the loss of targets."""
        config = self.config
        # Published parameters have been trained with an epsilon of their own.
        epsilon = config.text_block.residual.epsilon if config.text_preset else Norm.epsilon
        x = Norm(epsilon=epsilon, name="norm")(x)
        if targets is None:
            return nan_from(Dense(self.vocab_size, wide=True, name="logits")(x), there)
        own = meta.unbox(self.get_variable("params", "logits"))
        x = nan_from(x, there)
        return cross_entropy(x, own["kernel"], targets, axis=1, bias=own["bias"])

    def _features(self, whole, alone, joint, last, policy):
        """The `JointFeatures`, as often as they are asked for."""
        config = self.config
        if last is not None and not config.embedding:
            raise ValueError("this model has no features of images and texts: model.embedding is 0")
        if not config.embedding or (last is None and not self.is_initializing()):
            return ()
        sizes = config.embedding, config.text_layers, config.latents, config.width, config.heads
        mlp = getattr(config.block, "mlp", presets.TEXT.mlp)
        space = JointSpace(*sizes, mlp.expansion, **policy, name="joint")
        reads = config.context_view != "none"
        places = jnp.zeros(alone.shape[0], jnp.int32) if last is None else last
        patches, seen = whole
        found = space(patches, seen.any(axis=0), alone, places, joint if reads else None)
        return () if last is None else (found,)

    def _policy(self, dtype: Any) -> dict[str, Any]:
        """What every module of the layers is given."""
        # A single key is on every device.
        layout = None if self.config.context_view in POOLED else self.layout
        implementation = self.config.implementation or None
        return {
            "dtype": dtype,
            "dropout": self.config.dropout,
            "implementation": implementation,
            "layout": layout,
        }

    def _contexts(self, patches, visible, boxes):
        """All context tokens (I, S, M), and which are seen by all or by each layer (1|L, I, S)."""
        if "image" not in self.config.contexts:
            visible = jnp.zeros_like(visible)
        if "boxes" not in self.config.contexts:
            return patches, visible
        if boxes is None:
            raise ValueError('contexts has "boxes", but these data have none: scenes have them')
        dense = Dense(self.config.width, dtype=patches.dtype, name="boxes")
        tokens = Norm(name="boxes_norm")(dense(boxes))
        there = jnp.any(boxes != 0, axis=-1)
        there = jnp.broadcast_to(there, (visible.shape[0], *there.shape))
        return jnp.concatenate([patches, tokens], 1), jnp.concatenate([visible, there], 2)


def _pooled(context, seen, *, nothing):
    """The mean of what is seen (L, I, 1, M) or (I, 1, M), for each layer where they differ.

    And whether there is anything, (1|L, I, 1); with `nothing` there is not.
    """
    weight = seen.astype(context.dtype)
    total = jnp.maximum(weight.sum(axis=2, keepdims=True), 1.0)
    context = jnp.where(seen.any(axis=0)[..., None], context, 0)
    pooled = jnp.einsum("lis,ism->lim", weight / total, context)[:, :, None]
    anything = jnp.any(seen, axis=2, keepdims=True)
    if nothing:
        return pooled[0], jnp.zeros_like(anything)
    return (pooled[0] if pooled.shape[0] == 1 else pooled), anything
