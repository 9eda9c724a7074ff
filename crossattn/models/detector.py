"""Objects of an image: queries with learned places read the features of a backbone."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.patch_projection import PatchProjection
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float

__all__ = ["ObjectDetector", "grid_sinusoids"]


def grid_sinusoids(there: Bool[Array, "B Y X"], width: int) -> Float[Array, "B S M"]:
    """Places of a grid as sines and cosines (Carion et al. 2020, "DETR").

    Args:
      there: which places are those of the image, from the upper left corner on; rows and columns
        run from 0 to 2 pi over these.
      width: M, a multiple of 4: one half is of the row, the other of the column.

    >>> grid_sinusoids(jnp.ones((1, 2, 3), bool), 8).shape
    (1, 6, 8)
    """
    order = np.arange(width // 2)
    periods, found = 10_000.0 ** (order // 2 * 2 / (width // 2)), []
    for axis in (1, 2):
        # A table of all places in all sizes, of NumPy's float64: angles of float32, and XLA's sines
        # of them, differ by 1e-6, of which logits have ten times as much.
        place = np.arange(there.shape[axis] + 1.0)
        angle = (place / (place[:, None] + 1e-6) * 2 * np.pi)[..., None] / periods
        waves = np.where(order % 2 == 0, np.sin(angle), np.cos(angle))
        count = jnp.cumsum(there, axis, dtype=jnp.int32)
        found.append(jnp.asarray(waves, jnp.float32)[count.max(axis, keepdims=True), count])
    return jnp.concatenate(found, -1).reshape(there.shape[0], -1, width)


class ObjectDetector(Module):
    """What a DETR has behind its backbone (Carion et al. 2020, "End-to-End Object Detection").

    Both stacks add places to queries and keys (`positions="add"`), and their norms stand behind
    sublayers. Queries start at 0, their places are learned.

    Attributes:
      encoder: of the features alone, of the order ("self", "mlp").
      decoder: of the queries, which read them.
      count: Q, how many objects there are at most.
      classes: K; one more stands for no object.

    Example:
      >>> import jax
      >>> from dataclasses import replace
      >>> from crossattn.nn import AttentionConfig, presets
      >>> placed = dict.fromkeys(
      ...     ("self_attention", "cross_attention"), AttentionConfig(positions="add"))
      >>> design = replace(presets.config("encoder_decoder_post"), **placed)
      >>> reading = replace(design, order=("self", "mlp"))
      >>> model = ObjectDetector(Stack(1, 8, 2, reading), Stack(2, 8, 2, design), 5, 3)
      >>> features = jnp.ones((2, 4, 3, 6))
      >>> observe = lambda trace: trace.weights()
      >>> (logits, boxes, maps), _ = jax.eval_shape(lambda: model.init_with_output(
      ...     jax.random.key(0), features, observe=observe))
      >>> logits.shape, boxes.shape, maps.shape
      ((2, 5, 4), (2, 5, 4), (2, 2, 2, 5, 12))
    """

    encoder: Stack
    decoder: Stack
    count: int
    classes: int

    @nn.compact
    def __call__(
        self,
        features: Float[Array, "B Y X C"],
        there: Bool[Array, "B Y X"] | None = None,
        *,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B Q _"], Float[Array, "B Q 4"], Any]:
        """Objects of images.

        Args:
          features: of a backbone, (B, Y, X, C).
          there: which of them are of the image and not of what fills it up; all when None.
          observe: applied to the trace of each layer's attention to the features.

        Returns:
          Logits of classes, of which the last is no object; boxes (x, y of the middle, width,
          height) in 0..1 of the image; and what was observed, with a leading axis of layers.
        """
        B, width = features.shape[0], self.decoder.width
        there = jnp.ones(features.shape[:3], bool) if there is None else there
        seen, places = Mask.keys(there.reshape(B, -1)), grid_sinusoids(there, width)
        x = PatchProjection(width, 1, name="patches")(features).reshape(B, -1, width)
        x, _ = self.encoder(x, None, self_mask=seen, query_positions=places)
        own = learned(self, "queries", nn.initializers.normal(1.0), (self.count, width))
        own = own.astype(x.dtype)[None].repeat(B, 0)
        where: dict[str, Any] = {"query_positions": own, "key_positions": places, "mask": seen}
        y, kept = self.decoder(jnp.zeros_like(own), x, **where, observe=observe)
        y = Norm(epsilon=1e-5, name="norm")(y)
        box = nn.relu(Dense(width, name="box1")(nn.relu(Dense(width, name="box0")(y))))
        box = nn.sigmoid(Dense(4, name="box2")(box))
        return Dense(self.classes + 1, name="class")(y), box, kept
