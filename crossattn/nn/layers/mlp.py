"""Two dense layers with an activation between them."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from flax import linen as nn

from crossattn.nn.dtypes import light
from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import PolicyModule
from crossattn.shapes import Array, Float

__all__ = ["MLP"]

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu-tanh": nn.gelu,
    "gelu-quick": lambda x: x * nn.sigmoid(1.702 * x),
    "relu": nn.relu,
    "silu": nn.silu,
}


class MLP(PolicyModule):
    """Two dense layers with an activation between them.

    Attributes:
      expansion, activation, gated, use_bias: as in `MLPConfig`.
      others: as those of `PolicyModule`.
    """

    expansion: float | int = 4
    activation: Literal["gelu", "gelu-tanh", "gelu-quick", "relu", "silu"] = "gelu-tanh"
    gated: bool = False
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """Map each token by itself."""
        hidden = round(self.expansion * x.shape[-1])
        dense = partial(Dense, use_bias=self.use_bias, **self.dense_policy)
        wide = dense(features=hidden, name="up")(x)
        times = (dense(features=hidden, name="times")(x),) if self.gated else ()
        wide = light(partial(_active, ACTIVATIONS[self.activation]), wide)(wide, *times)
        return dense(features=x.shape[-1], name="down")(self.dropped(wide))


def _active(activation: Callable[[Array], Array], wide: Array, times: Array | None = None) -> Array:
    wide = activation(wide)
    return wide if times is None else wide * times
