"""Two dense layers with an activation between them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from flax import linen as nn

from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import Module
from crossattn.shapes import Array, Float

__all__ = ["MLP"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu-tanh": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
}


class MLP(Module):
    """Two dense layers with an activation between them.

    Attributes:
      expansion: hidden width in units of M.
      activation: "gelu-tanh" is the approximation of "gelu".
      gated: the activation of one map times another map (Shazeer 2020, "GLU variants").
      use_bias: of all maps.
      dtype: in which it is computed; that of its input when None.
      param_dtype: of parameters that are made.
    """

    expansion: float | int = 4
    activation: Literal["gelu", "gelu-tanh", "relu", "silu"] = "gelu-tanh"
    gated: bool = False
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = float

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """Map each token by itself."""
        hidden = round(self.expansion * x.shape[-1])
        dense = partial(
            Dense, use_bias=self.use_bias, dtype=self.dtype, param_dtype=self.param_dtype
        )
        wide = ACTIVATIONS[self.activation](dense(hidden, name="up")(x))
        if self.gated:
            wide = wide * dense(hidden, name="times")(x)
        return dense(x.shape[-1], name="down")(wide)
