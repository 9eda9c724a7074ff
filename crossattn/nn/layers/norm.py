"""Norms of the last axis, in at least float32 whatever the stream's dtype."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.config import NormKind
from crossattn.nn.dtypes import light
from crossattn.nn.module import Module
from crossattn.ops.reference import precision
from crossattn.shapes import Array, Float

__all__ = ["LayerNorm", "Norm"]


class Norm(Module):
    """Layer norm (Ba et al. 2016) or root-mean-square norm (Zhang & Sennrich 2019).

    Attributes:
      kind: "layer" has a scale and a bias; "rms" a scale; "rms+1" adds 1 to its scale, which
        starts at 0 (Gemma).
      epsilon: added to the mean square.
      param_dtype: of parameters that are made.

    Example:
      >>> y, params = Norm("rms+1").init_with_output(jax.random.key(0), jnp.full((2, 4), 3.0))
      >>> y[0].round(3).tolist(), params["params"]["scale"].tolist()
      ([1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0])
    """

    kind: NormKind = "layer"
    epsilon: float = 1e-6
    param_dtype: Any = float

    @nn.compact
    def __call__(self, x: Float[Array, "... M"]) -> Float[Array, "... M"]:
        """Normalise (..., M); the result has the dtype of `x`."""
        self.made_for("scale", -1, x.shape[-1])
        last = lambda p: p.astype(precision(x.dtype)).reshape((1,) * (x.ndim - 1) + (-1,))
        start = nn.initializers.zeros if self.kind == "rms+1" else nn.initializers.ones
        scale = last(self.param("scale", start, (x.shape[-1],), self.param_dtype))
        bias = None
        if self.kind == "layer":
            zeros = nn.initializers.zeros
            bias = last(self.param("bias", zeros, (x.shape[-1],), self.param_dtype))
        return light(_normed, x, static_argnums=(3, 4))(x, scale, bias, self.kind, self.epsilon)


def _normed(x: Array, scale: Array, bias: Array | None, kind: NormKind, epsilon: float) -> Array:
    wide = x.astype(scale.dtype)
    if kind == "layer":
        wide = wide - wide.mean(axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.square(wide).mean(axis=-1, keepdims=True) + epsilon)
    wide = wide * (scale + 1 if kind == "rms+1" else scale)
    return (wide if bias is None else wide + bias).astype(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Flax's, whose last bits recorded runs have; its result has the dtype of its input."""

    def __call__(
        self, x: Float[Array, "... M"], *, mask: Array | None = None
    ) -> Float[Array, "... M"]:
        """Normalise (..., M)."""
        with jax.numpy_dtype_promotion("standard"):
            return super().__call__(x, mask=mask).astype(x.dtype)
