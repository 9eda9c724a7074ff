"""One vector of a picture and one of a text, in a space where those that belong together meet."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn import presets
from crossattn.nn.families.latents import Latents
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import PolicyModule
from crossattn.nn.stack import Stack
from crossattn.ops import Mask
from crossattn.ops.reference import precision
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["JointFeatures", "JointSpace"]

# As CLIP's: the temperature begins at 0.07, and cosines are never multiplied by more than 100.
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


class JointFeatures(NamedTuple):
    """What a model makes of pictures and of texts for a comparison.

    Attributes:
      image: (I, D) of length 1, float32.
      text: (B, D) of length 1, float32; made of the words alone.
      scale: by which cosines are multiplied, a scalar.
      match: (B,) logit of whether each text is true of its picture, of words that have read it;
        None where words read no picture.
    """

    image: Any
    text: Any
    scale: Any
    match: Any = None


class JointSpace(PolicyModule):
    """Learned queries read the patches, and the last word of a text stands for it.

    The image is encoded, so that the order of what is in it can be said: queries read all patches
    and each other in each layer (Perceiver: Jaegle et al. 2021, and the contrast of BLIP-2: Li et
    al. 2023), and their mean is projected. The text is as in CLIP (Radford et al. 2021) the normed
    state of the last word of a causal stack, projected without a bias. Where words have read the
    picture, a third head says from the last of them whether both belong together (ALBEF: Li et al.
    2021).

    Attributes:
      size: D.
      layers: of the queries.
      queries: R.
      width: M.
      heads: H.
      expansion: of MLPs.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax
      >>> module = JointSpace(size=3, layers=1, queries=2, width=8, heads=2)
      >>> patches, words = jnp.ones((2, 7, 8)), jnp.ones((4, 5, 8))
      >>> found, _ = jax.eval_shape(lambda: module.init_with_output(
      ...     jax.random.key(0), patches, jnp.ones((2, 7), bool), words, jnp.zeros(4, int)))
      >>> found.image.shape, found.text.shape, found.scale.shape
      ((2, 3), (4, 3), ())
    """

    size: int
    layers: int
    queries: int
    width: int
    heads: int
    expansion: float | int = 4

    @nn.compact
    def __call__(
        self,
        patches: Float[Array, "I P M"],
        visible: Bool[Array, "I P"],
        words: Float[Array, "B T M"],
        last: Int[Array, " B"],
        joint: Float[Array, "B T M"] | None = None,
    ) -> JointFeatures:
        """Compare.

        Args:
          patches: encoded, with their positions.
          visible: patches that may be read.
          words: states that have read the text alone.
          last: the place of the last word of each text.
          joint: states that have read the picture as well.
        """
        mlp = dataclasses.replace(presets.TEXT.mlp, expansion=self.expansion)
        block = dataclasses.replace(presets.TEXT, order=("cross", "self", "mlp"), mlp=mlp)
        reader = Stack(self.layers, self.width, self.heads, block, **self.policy)
        latents = Latents(self.queries, reader, final_norm=True, name="image")
        read, _ = latents(patches, mask=Mask.keys(visible))
        project = lambda x, name: _unit(Dense(self.size, use_bias=False, name=name)(x))
        text = Norm(name="text_norm")(_at(words, last))
        log_scale = self.param("log_scale", nn.initializers.constant(math.log(FIRST_SCALE)), ())
        match = None
        if joint is not None:
            state = Norm(name="match_norm")(_at(joint, last))
            match = Dense(1, wide=True, name="match")(state)[:, 0]
        return JointFeatures(
            project(read.mean(axis=1), "image_out"),
            project(text, "text_out"),
            jnp.exp(jnp.minimum(log_scale, math.log(LARGEST_SCALE))),
            match,
        )


def _at(states: Array, places: Array) -> Array:
    """The state (B, M) at one place of each row."""
    return jnp.take_along_axis(states, places[:, None, None], axis=1)[:, 0]


def _unit(x: Array) -> Array:
    x = x.astype(precision(x.dtype))
    return x / jnp.sqrt(jnp.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12))
