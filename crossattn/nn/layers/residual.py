"""A sublayer between its norm, its gate and its stream."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.config import ResidualConfig
from crossattn.nn.dtypes import common
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import PolicyModule
from crossattn.shapes import Array, Float

__all__ = ["Residual"]

# Of the learned numbers of a gate, where they do not start at 0.
STARTS = {"layer-scale": 1e-4, "tanh-0.1": 0.1}


class Residual(PolicyModule):
    """How a sublayer is joined to its stream.

    Attributes:
      config: what the join is made of.
      others: as those of `PolicyModule`.
    """

    config: ResidualConfig = ResidualConfig()

    def setup(self):  # noqa: D102 - Linen calls it
        fields = self.config.norm_kind, self.config.epsilon, self.param_dtype
        if self.config.norm != "none":
            self.norm = Norm(*fields)
        if self.config.norm == "sandwich":
            self.norm_after = Norm(*fields)

    def before(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """What the sublayer reads."""
        return self.norm(x) if self.config.norm in ("pre", "sandwich") else x

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"], y: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """The stream after the sublayer has made y of `before(x)`; it keeps its dtype."""
        y = y.astype(x.dtype)
        if self.config.norm == "sandwich":
            y = self.norm_after(y)
        if self.config.gate is not None:
            y = y * self._gate(y).astype(y.dtype)
        y = self.dropped(y)
        y = x + y if self.config.skip else y
        return self.norm(y) if self.config.norm == "post" else y

    def _gate(self, y: Array) -> Array:
        kind = self.config.gate
        size = y.shape[-1] if kind in ("tanh-each", "layer-scale") else 1
        start = nn.initializers.constant(STARTS.get(str(kind), 0.0))
        gate = self.param("gate", start, (size,), self.param_dtype)[None, None]
        gate = gate.astype(common(gate, y))
        if kind == "layer-scale":
            return gate
        return jax.nn.sigmoid(gate) if kind == "sigmoid" else jnp.tanh(gate)
