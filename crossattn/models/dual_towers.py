"""Pictures and texts encoded apart, and compared: CLIP and SigLIP."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from crossattn.models.image_tower import ImageTower, check_text_alone
from crossattn.models.text_tower import TextTower
from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import Module
from crossattn.shapes import Array, Float, Int

__all__ = ["DualTowers", "unit_length"]

# As CLIP's: the temperature begins at 0.07.
FIRST_SCALE = 2.6592


class DualTowers(Module):
    """Two towers whose vectors meet in one space.

    CLIP (Radford et al. 2021) projects both, and takes the state of a text's end token; SigLIP
    (Zhai et al. 2023) projects the last state of texts of fixed length, and adds a learned bias to
    the logits.

    Attributes:
      image: its `pooled` vector stands for a picture.
      text: its blocks read no context.
      size: D.
      project_image: whether pictures are projected, without a bias; as they are where False.
      text_bias: whether the projection of texts has a bias.
      stands: which state stands for a text: that of the first "end" token, of the "last" token,
        or of the one with the "largest" id (as the first files of CLIP mean it).
      end_id: the end token.
      logit_bias: whether a learned number is added to the logits.

    Example:
      >>> import jax
      >>> from crossattn.nn import Stack, presets
      >>> image = ImageTower(Stack(1, 8, 2, presets.TEXT), patch_size=4, grid=(2, 2))
      >>> text = TextTower(Stack(1, 6, 2, presets.TEXT), vocab_size=11, length=5, causal=True)
      >>> model = DualTowers(image, text, size=3, stands="end", end_id=10)
      >>> pixels, tokens = jnp.ones((4, 8, 8, 3)), jnp.full((2, 5), 10)
      >>> logits, _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), pixels, tokens))
      >>> logits.shape
      (4, 2)
    """

    image: ImageTower
    text: TextTower
    size: int
    project_image: bool = True
    text_bias: bool = False
    stands: Literal["end", "last", "largest"] = "last"
    end_id: int | None = None
    logit_bias: bool = False

    def setup(self):  # noqa: D102 - Linen calls it
        check_text_alone(type(self).__name__, self.text.stack)
        if self.stands == "end" and self.end_id is None:
            raise ValueError('DualTowers: stands="end" needs end_id, the number of that token')
        if self.project_image:
            self.image_projection = Dense(self.size, use_bias=False)
        self.text_projection = Dense(self.size, use_bias=self.text_bias)
        self.scale = self.param("scale", nn.initializers.constant(FIRST_SCALE), ())
        if self.logit_bias:
            self.bias = self.param("bias", nn.initializers.zeros, ())

    def __call__(
        self, pixels: Float[Array, "I h w 3"], tokens: Int[Array, "B T"]
    ) -> Float[Array, "I B"]:
        """Logits of each picture and each text."""
        return self.compare(self.image_features(pixels), self.text_features(tokens))

    def image_features(self, pixels: Float[Array, "I h w 3"]) -> Float[Array, "I D"]:
        """A vector of length 1 for each picture."""
        x = self.image.pooled(pixels)
        return unit_length(self.image_projection(x) if self.project_image else x)

    def text_features(self, tokens: Int[Array, "B T"]) -> Float[Array, "B D"]:
        """A vector of length 1 for each text."""
        states, _ = self.text(tokens)
        if self.stands == "last":
            x = states[:, -1]
        else:
            ends = tokens if self.stands == "largest" else tokens == self.end_id
            x = jnp.take_along_axis(states, jnp.argmax(ends, axis=1)[:, None, None], axis=1)[:, 0]
        return unit_length(self.text_projection(x))

    def compare(
        self, images: Float[Array, "I D"], texts: Float[Array, "B D"]
    ) -> Float[Array, "I B"]:
        """Cosines times exp(scale), and the bias where there is one."""
        logits = images @ texts.T * jnp.exp(self.scale).astype(images.dtype)
        return logits + self.bias.astype(logits.dtype) if self.logit_bias else logits


def unit_length(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """Each vector divided by its length.

    >>> unit_length(jnp.array([3.0, 4.0])).round(1).tolist()
    [0.6000000238418579, 0.800000011920929]
    """
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
