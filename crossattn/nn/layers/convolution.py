"""Convolution over a line of tokens, such as the frames of a sound."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.layers.dense import computing_dtype
from crossattn.nn.module import KERNEL_INIT, Module
from crossattn.shapes import Array, Float

__all__ = ["Convolution"]


class Convolution(Module):
    """Neighbouring tokens (B, T, N), zeros beyond the ends, become tokens (B, T / stride, M).

    One product of the neighbours side by side, as `torch.nn.Conv1d(N, M, size, stride, size // 2)`
    and `flax.linen.Conv`, whose parameters it has.

    Attributes:
      features: M.
      size: how many tokens each result sees, an odd number.
      stride: tokens from one result to the next.
      dtype: of the product; that of the inputs when None.
      param_dtype: of parameters that are made.

    Raises:
      ValueError: an even size.

    Example:
      >>> import jax
      >>> layer, x = Convolution(5, stride=2), jnp.ones((2, 7, 4))
      >>> y, params = layer.init_with_output(jax.random.key(0), x)
      >>> y.shape, params["params"]["kernel"].shape
      ((2, 4, 5), (3, 4, 5))
    """

    features: int
    size: int = 3
    stride: int = 1
    dtype: Any = None
    param_dtype: Any = float

    def __post_init__(self):
        super().__post_init__()
        if self.size % 2 == 0:
            raise ValueError(
                f"Convolution.size is odd, so that a token is in the middle: {self.size}"
            )

    @nn.compact
    def __call__(self, x: Float[Array, "B T N"]) -> Float[Array, "B U M"]:
        """Map the tokens."""
        shape = (self.size, x.shape[-1], self.features)
        self.made_for("kernel", -2, x.shape[-1])
        kernel = self.param("kernel", KERNEL_INIT, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), self.param_dtype)
        x = x.astype(computing_dtype(self.dtype, x, kernel))
        around, count = self.size // 2, -(-x.shape[1] // self.stride)
        padded = jnp.pad(x, ((0, 0), (around, around), (0, 0)))
        reach = self.stride * (count - 1) + 1
        beside = [padded[:, k : k + reach : self.stride] for k in range(self.size)]
        rows = jnp.concatenate(beside, axis=-1).reshape(-1, self.size * x.shape[-1])
        y = rows @ kernel.reshape(-1, self.features).astype(x.dtype)
        return (y + bias.astype(x.dtype)[None]).reshape(x.shape[0], count, self.features)
