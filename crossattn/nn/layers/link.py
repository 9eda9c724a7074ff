"""A stream joined by the state of a tower."""

from typing import Any, get_args

from flax import linen as nn

from crossattn.nn.choices import known
from crossattn.nn.config import LinkKind
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.shapes import Array, Float

__all__ = ["Link"]


class Link(Module):
    """A stream x is joined by the state h of a tower (Xu et al. 2023, "BridgeTower").

    Attributes:
      kind: "add": LN(h + x); "scaled": LN(a h + x) with a = 1 at the start; "interpolated":
        LN((1 - a) h + a x) with a = 0.5 at the start.
      epsilon: of the norm.
      param_dtype: of parameters that are made.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> x = jnp.arange(6.0).reshape(1, 2, 3)
      >>> linked, _ = jax.jit(Link().init_with_output)(jax.random.key(0), x, x)
      >>> [round(value, 2) for value in linked[0, 0].tolist()]
      [-1.22, 0.0, 1.22]
    """

    kind: LinkKind = "add"
    epsilon: float = 1e-5
    param_dtype: Any = float

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T M"], tower: Float[Array, "B T M"]
    ) -> Float[Array, "B T M"]:
        """The stream that goes on."""
        known("Link.kind", self.kind, get_args(LinkKind))
        if self.kind != "add":
            start = nn.initializers.constant(1.0 if self.kind == "scaled" else 0.5)
            factor = self.param("factor", start, (), self.param_dtype).astype(x.dtype)
            scaled = self.kind == "scaled"
            tower = tower * (factor if scaled else 1 - factor)
            x = x if scaled else x * factor
        return Norm("layer", self.epsilon, self.param_dtype, name="norm")(tower + x)
