"""A published vision tower with its weights: features of every patch of a picture."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from crossattn.interop.files import WeightsError
from crossattn.models.image_tower import ImageTower
from crossattn.pretrained.checkpoint import Checkpoint
from crossattn.pretrained.image_processor import ImageProcessor
from crossattn.pretrained.towers import check_size
from crossattn.shapes import Float, UInt8

__all__ = ["PictureEncoder"]


class PictureEncoder:
    """ViT, or the tower of CLIP, SigLIP, BLIP or BLIP-2.

    Attributes:
      module: the Flax module.
      params: its variables.
      projection: (M, D), the map of CLIP from a picture's vector to what texts share; or None.
      processor: what is done to pictures first.
    """

    def __init__(
        self, module: ImageTower, params: Any, checkpoint: Checkpoint, projection: Any = None
    ):
        self.module, self.params, self.projection = module, params, projection
        self._checkpoint = checkpoint
        self._run = jax.jit(functools.partial(module.apply), static_argnames="method")

    def __repr__(self) -> str:
        rows, columns = self.module.grid
        return (
            f"PictureEncoder({rows} x {columns} patches of {self.module.patch_size}, "
            f"{self.module.stack.layers} layers, {self.module.stack.width} features)"
        )

    @functools.cached_property
    def processor(self) -> ImageProcessor:
        """Of the folder's preprocessor_config.json."""
        return ImageProcessor.of(self._checkpoint)

    def pixels(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> np.ndarray:
        """Pictures (h, w, 3), uint8, as the tower reads them: (I, h, w, 3), float32."""
        found = [self.processor(np.asarray(one)) for one in pictures]
        for pixels in found:
            check_size(pixels, self.module, self._checkpoint.where)
        side, (rows, columns) = self.module.patch_size, self.module.grid
        return np.stack(found) if found else np.zeros((0, rows * side, columns * side, 3), "f4")

    def patches(
        self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]
    ) -> Float[np.ndarray, "I r c M"]:
        """The state of each patch behind the last layer."""
        tokens = np.asarray(self._run(self.params, self.pixels(pictures)))
        tokens = tokens[:, int(self.module.class_token) :]
        return tokens.reshape(len(tokens), *self.module.grid, tokens.shape[-1])

    def seen(self, picture: UInt8[np.ndarray, "h w 3"]) -> tuple[float, float, float, float]:
        """Which part of a picture its patches cover: y, x, y, x in shares; see `window`."""
        side, (rows, columns) = self.module.patch_size, self.module.grid
        return self.processor.window(picture.shape[:2], (rows * side, columns * side))

    def pooled(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float[np.ndarray, "I M"]:
        """One vector for each picture: of its head, its class token, or the mean of patches."""
        return np.asarray(self._run(self.params, self.pixels(pictures), method="pooled"))

    def projected(self, pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]]) -> Float[np.ndarray, "I D"]:
        """The `pooled` vectors in the space of texts, of any length: CLIP's `image_embeds`.

        Raises:
          WeightsError: the model has no projection.
        """
        if self.projection is None:
            where, classes = self._checkpoint.where, "CLIPModel, CLIPVisionModelWithProjection"
            raise WeightsError(f"{where} has no visual_projection: {classes} have one; use pooled")
        return self.pooled(pictures) @ np.asarray(self.projection)
