"""A picture's patches as vectors, by the convolution of vision transformers."""

from typing import Any

from flax import linen as nn

from crossattn.nn.layers.dense import computing_dtype
from crossattn.nn.layers.patch_encoder import cut_cells
from crossattn.nn.module import KERNEL_INIT, Module
from crossattn.shapes import Array, Float

__all__ = ["PatchProjection"]


class PatchProjection(Module):
    """A convolution whose stride is its kernel's side: one product of patches and kernel.

    (Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words".) What is left over at the right and
    at the bottom where the patches do not fill a picture is not seen.

    Attributes:
      width: M.
      patch_size: side of a patch in pixels.
      use_bias: whether a bias is added.
      param_dtype: of parameters that are made.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> y, params = PatchProjection(8, 4).init_with_output(
      ...     jax.random.key(0), jnp.ones((2, 9, 12, 3)))
      >>> y.shape, params["params"]["kernel"].shape
      ((2, 2, 3, 8), (4, 4, 3, 8))
    """

    width: int
    patch_size: int
    use_bias: bool = True
    param_dtype: Any = float

    @nn.compact
    def __call__(self, pixels: Float[Array, "B h w C"]) -> Float[Array, "B r c M"]:
        """The patches of each row and column."""
        side, (_, h, w, channels) = self.patch_size, pixels.shape
        shape = (side, side, channels, self.width)
        self.made_for("kernel", -2, channels)
        kernel = self.param("kernel", KERNEL_INIT, shape, self.param_dtype)
        pixels = pixels.astype(computing_dtype(None, pixels, kernel))
        patches = cut_cells(pixels[:, : h - h % side, : w - w % side], side)
        y = patches @ kernel.astype(pixels.dtype).reshape(-1, self.width)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.width,), self.param_dtype)
        return y + bias.astype(y.dtype)[None, None, None]
