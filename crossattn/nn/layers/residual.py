"""A sublayer between its norm, its gate and its stream."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.dtypes import common
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.nn.slots import Join
from crossattn.shapes import Array, Float

__all__ = ["Residual"]


class Residual(Module):
    """A sublayer between its norm, its gate and its stream.

    Attributes:
      join: how it is joined.
    """

    join: Join = Join()

    def setup(self):  # noqa: D102 - Linen calls it
        if self.join.site != "none":
            self.norm = Norm(self.join.norm, self.join.epsilon)
        if self.join.site == "around":
            self.norm_after = Norm(self.join.norm, self.join.epsilon)

    def before(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """What the sublayer reads."""
        return self.norm(x) if self.join.site in ("before", "around") else x

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"], y: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """The stream after the sublayer has made y of `before(x)`; it keeps its dtype."""
        y = y.astype(x.dtype)
        if self.join.site == "around":
            y = self.norm_after(y)
        if self.join.gate is not None:
            y = y * self._gate(y).astype(y.dtype)
        y = x + y if self.join.residual else y
        return self.norm(y) if self.join.site == "after" else y

    def _gate(self, y: Array) -> Array:
        kind = self.join.gate
        size = y.shape[-1] if kind in ("tanh-each", "layer-scale") else 1
        start = nn.initializers.constant(1e-4 if kind == "layer-scale" else 0.0)
        gate = self.param("gate", start, (size,))[None, None]
        gate = gate.astype(common(gate, y))
        if kind == "layer-scale":
            return gate
        return jax.nn.sigmoid(gate) if kind == "sigmoid" else jnp.tanh(gate)
