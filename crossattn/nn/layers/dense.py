"""Dense layer over flattened tokens."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.dtypes import wide_dot
from crossattn.nn.module import KERNEL_INIT, Module
from crossattn.shapes import Array, Float


class Dense(Module):
    """Affine map of the last axis, whatever stands before it.

    The leading axes are flattened before the product: the gradient of a product with
    three-dimensional inputs copies a transposed cotangent, with (B T, M) it does not, which saves
    about a tenth of a training step on a CPU. Parameters have the names, shapes and initial values
    of `flax.linen.Dense`.

    Attributes:
      features: width of the output.
      use_bias: whether a bias is added.
      wide: whether the product of half precision is added up, and returned, in float32: logits.
      flat: False where more than one of the leading axes lies over devices: flattened, they would
        be gathered first.
      dtype: of the product; that of the inputs when None, to which the parameters are cast.
      param_dtype: of parameters that are made: JAX's float, unless another one is given.
      kernel_init: initial values of the kernel.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> y, params = Dense(5).init_with_output(jax.random.key(0), jnp.ones((2, 3, 4)))
      >>> y.shape, params["params"]["kernel"].shape
      ((2, 3, 5), (4, 5))
    """

    features: int
    use_bias: bool = True
    wide: bool = False
    flat: bool = True
    dtype: Any = None
    param_dtype: Any = float
    kernel_init: nn.initializers.Initializer = KERNEL_INIT

    @nn.compact
    def __call__(self, inputs: Float[Array, "... M"]) -> Float[Array, "... N"]:
        """Map (..., M) to (..., features)."""
        shape = (inputs.shape[-1], self.features)
        self.made_for("kernel", -2, inputs.shape[-1])
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        inputs = inputs.astype(computing_dtype(self.dtype, inputs, kernel))
        rows = inputs.reshape(-1, inputs.shape[-1]) if self.flat else inputs
        kernel = kernel.astype(inputs.dtype)
        y = wide_dot(rows, kernel, 1) if self.wide else rows @ kernel
        if self.use_bias:
            zeros = nn.initializers.zeros
            bias = self.param("bias", zeros, (self.features,), self.param_dtype)
            y = y + bias.astype(y.dtype).reshape(*[1] * (y.ndim - 1), -1)
        return y.reshape(*inputs.shape[:-1], self.features)


def computing_dtype(dtype: Any, inputs: Array, kernel: Array) -> Any:
    """`dtype`, or that of the inputs; of whole numbers, such as pixels, that of the kernel."""
    if dtype is not None:
        return dtype
    return inputs.dtype if jnp.issubdtype(inputs.dtype, jnp.floating) else kernel.dtype
