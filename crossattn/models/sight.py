"""What a text position sees of the image, however the model joins them."""

import dataclasses

import jax
import jax.numpy as jnp

from crossattn.ops import AttentionTrace
from crossattn.shapes import Array, Float


@dataclasses.dataclass(frozen=True)
class Sight:
    """The part of an attention in which words look at patches, as an attention of its own.

    A pytree that only refers to the trace: what nobody asks for costs nothing.

    Attributes:
      trace: of the attention in which words take part.
      through: of the attention that made its context of patches (a resampler), or None.
      patches: P, number of the first keys that are patches.
    """

    trace: AttentionTrace
    through: AttentionTrace | None = None
    patches: int = 0

    def rows(self) -> Float[Array, "B H T P"]:
        """Weights of the patches, renormalised where other keys took a share of them."""
        weights, mass = self._weights()
        return weights if mass is None else weights / jnp.where(mass == 0, 1, mass)[..., None]

    def mass(self) -> Float[Array, "B H T"]:
        """The share of the weight that falls on patches."""
        weights, mass = self._weights()
        return weights.sum(axis=-1) if mass is None else mass

    def _weights(self):
        weights = self.trace.weights(through=self.through)
        if weights.shape[-1] == self.patches:
            return weights, None
        weights = weights[..., : self.patches]
        return weights, weights.sum(axis=-1)


jax.tree_util.register_dataclass(Sight, data_fields=["trace", "through"], meta_fields=["patches"])
