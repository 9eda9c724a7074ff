"""The image as words read it: tokens of patches, which may first read one another."""

import dataclasses

import jax.numpy as jnp
from flax import linen as nn

from crossattn.models.config import VisionLanguageConfig
from crossattn.nn import presets
from crossattn.nn.layers.norm import LayerNorm
from crossattn.nn.layers.patch_encoder import PatchEncoder
from crossattn.nn.scan import Remat
from crossattn.nn.stack import Stack
from crossattn.ops import Mask
from crossattn.shapes import Array, Bool, Float
from crossattn.sharding import ContextParallel

__all__ = ["VisionEncoder", "vision_encoder"]


class VisionEncoder(PatchEncoder):
    """A `PatchEncoder`, and behind it layers in which the tokens of a picture read each other.

    The layers are those of a ViT: each token reads all others, the norm stands before each
    sublayer and once more behind the last (Dosovitskiy et al. 2021, "An image is worth 16x16
    words"). Without layers nothing is added.

    Attributes:
      width, kind, cell, layout, dtype, coordinates: as those of `PatchEncoder`.
      depth: number of layers, 0 or more.
      heads: H, of each.
      expansion: of their MLPs.
      dropout: as that of `PolicyModule`.
      implementation: as that of `PolicyModule`.
      remat: as that of `Stack`.

    Example:
      >>> import jax
      >>> encoder = VisionEncoder(width=8, depth=2, heads=2)
      >>> symbols = jnp.ones((2, 9, 3))
      >>> jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), symbols)[0]).shape
      (2, 9, 8)
    """

    depth: int = 0
    heads: int = 4
    expansion: float | int = 4
    dropout: float = 0.0
    implementation: str | None = None
    remat: Remat = None

    @nn.compact
    def __call__(
        self, images: Array, visible: Bool[Array, "B P"] | None = None
    ) -> Float[Array, "B P M"]:
        """Encode what a `PatchEncoder` reads.

        Args:
          images: symbolic features (B, P, F) or pictures (B, h, w, 3), uint8.
          visible: patches that the layers may read; None: all.
        """
        x = super().__call__(images)
        if not self.depth:
            return x
        mlp = dataclasses.replace(presets.TEXT.mlp, expansion=self.expansion)
        stack = Stack(
            self.depth,
            self.width,
            self.heads,
            dataclasses.replace(presets.TEXT, mlp=mlp),
            self.remat,
            dtype=self.dtype,
            dropout=self.dropout,
            implementation=self.implementation,
            layout=self.layout,
            name="layers",
        )
        mask = None
        if visible is not None:
            # What is hidden is not read, and its own state cannot spoil a gradient.
            x, mask = jnp.where(visible[..., None], x, 0), Mask.keys(visible)
        x, _ = stack(x, None, self_mask=mask)
        return LayerNorm(name="last_norm")(x)


def vision_encoder(
    config: VisionLanguageConfig, cell: int, layout: ContextParallel | None = None
) -> VisionEncoder:
    """The encoder of a model, whose parameters stand under its name "encoder".

    Args:
      config: of the model.
      cell: side of a cell of pixels.
      layout: of the tokens over devices.
    """
    return VisionEncoder(
        config.width,
        config.image_encoder,
        cell,
        layout,
        None if config.dtype == "float32" else jnp.dtype(config.dtype),
        config.coordinates,
        config.encoder_layers,
        config.heads,
        getattr(config.block, "mlp", presets.TEXT.mlp).expansion,
        config.dropout,
        config.implementation or None,
        config.remat or None,
        name="encoder",
    )
