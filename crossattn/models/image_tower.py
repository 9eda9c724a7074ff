"""A vision transformer: the tower of ViT, CLIP, SigLIP, BLIP and BLIP-2."""

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.families.latents import Latents
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.patch_projection import PatchProjection
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import learned
from crossattn.ops.checks import as_array
from crossattn.shapes import Array, Float

__all__ = ["ImageTower", "check_text_alone"]


class ImageTower(Module):
    """Patches, a class token before them, learned positions, a stack that reads nothing else.

    (ViT: Dosovitskiy et al. 2021; CLIP: Radford et al. 2021; BLIP: Li et al. 2022; SigLIP: Zhai et
    al. 2023.)

    Attributes:
      stack: of blocks without "cross" in their order.
      patch_size: side of a patch in pixels.
      grid: rows and columns of patches, for which there are positions.
      class_token: whether a learned token stands before the patches.
      patch_bias: whether the map of patches has a bias.
      first_norm: what the stack gets is normed (CLIP).
      final_norm: what it returns is normed.
      epsilon: of these norms.
      head: learned queries that read all patches, of which `pooled` returns the first (SigLIP).

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> stack = Stack(layers=2, width=8, heads=2, config=presets.TEXT)
      >>> tower = ImageTower(stack, patch_size=4, grid=(2, 3))
      >>> pixels = jnp.ones((5, 8, 12, 3))
      >>> tokens, _ = jax.eval_shape(lambda: tower.init_with_output(jax.random.key(0), pixels))
      >>> tokens.shape
      (5, 7, 8)
    """

    stack: Stack
    patch_size: int
    grid: tuple[int, int]
    class_token: bool = True
    patch_bias: bool = True
    first_norm: bool = False
    final_norm: bool = True
    epsilon: float = 1e-5
    head: Latents | None = None

    def setup(self):  # noqa: D102 - Linen calls it
        check_text_alone(type(self).__name__, self.stack)
        width, made_in = self.stack.width, self.stack.param_dtype
        self.patches = PatchProjection(width, self.patch_size, self.patch_bias, made_in)
        if self.first_norm:
            self.norm_first = Norm(epsilon=self.epsilon, param_dtype=made_in)
        if self.final_norm:
            self.norm = Norm(epsilon=self.epsilon, param_dtype=made_in)

    def __call__(self, pixels: Float[Array, "B h w 3"]) -> Float[Array, "B S M"]:
        """The tokens of pictures: that of the class, where there is one, then row by row.

        Args:
          pixels: prepared as the model wants them, see `crossattn.pretrained`.

        Raises:
          ValueError: pictures of another size than there are positions for.
        """
        pixels = as_array("pixels", pixels)
        rows, columns = self.grid
        if pixels.ndim != 4 or pixels.shape[3] != 3:
            raise ValueError(f"pixels are (B, h, w, 3), got {pixels.shape}")
        h, w = pixels.shape[1:3]
        if (h // self.patch_size, w // self.patch_size) != (rows, columns):
            raise ValueError(
                f"pictures of {h} x {w} pixels, but this tower has positions for {rows} x {columns}"
                f" patches of {self.patch_size}: resize them to "
                f"{rows * self.patch_size} x {columns * self.patch_size}"
            )
        x = self.stack_input(self.patches(pixels))
        x, _ = self.stack(self.norm_first(x) if self.first_norm else x, None)
        return self.norm(x) if self.final_norm else x

    @nn.compact
    def stack_input(self, patches: Float[Array, "B r c M"]) -> Float[Array, "B S M"]:
        """The class token and the patches, with their positions."""
        width, start = self.stack.width, nn.initializers.normal(0.02)
        x = patches.reshape(len(patches), patches.shape[1] * patches.shape[2], width)
        made_in = self.stack.param_dtype
        if self.class_token:
            token = self.param("class_token", start, (width,), made_in).astype(x.dtype)
            token = jnp.broadcast_to(token[None, None], (x.shape[0], 1, width))
            x = jnp.concatenate([token, x], axis=1)
        places = learned(self, "positions", start, (x.shape[1], width), made_in)
        return x + places.astype(x.dtype)[None]

    def pooled(self, pixels: Float[Array, "B h w 3"]) -> Float[Array, "B M"]:
        """What the head makes of the tokens; without one that of the class, or else their mean."""
        tokens = self(pixels)
        if self.head is not None:
            return self.head(tokens)[0][:, 0]
        return tokens[:, 0] if self.class_token else tokens.mean(axis=1)


def check_text_alone(what: str, stack: Stack) -> None:
    """Refuse a stack whose blocks read a context.

    >>> check_text_alone("ImageTower", Stack(1, 8, 2))
    Traceback (most recent call last):
    ValueError: ImageTower: its blocks read no context, order is ('self', 'cross', 'mlp')
    """
    if stack.config.reads:
        raise ValueError(f"{what}: its blocks read no context, order is {stack.config.order}")
