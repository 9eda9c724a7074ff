"""What a word sees of the image, however the model joins them."""

import dataclasses

import jax
import jax.numpy as jnp

from crossattn.ops import AttentionTrace
from crossattn.shapes import Array, Float

__all__ = ["ImageAttention"]


@dataclasses.dataclass(frozen=True)
class ImageAttention:
    """The part of an attention in which words look at patches, as an attention of its own.

    A pytree that only refers to traces: what nobody asks for costs nothing.

    Attributes:
      trace: of the attention in which words take part.
      through: of the attention that made its context of patches (latents, shared tokens), or None.
      patches: P, number of the first keys that are patches.
      texts: how many texts share a row of the trace, standing side by side.
      shared: R, number of the last queries and keys of both traces that carry what one stream
        tells the other (a bottleneck); 0: all keys do.
    """

    trace: AttentionTrace
    through: AttentionTrace | None = None
    patches: int = 0
    texts: int = 1
    shared: int = 0

    def weights(self) -> Float[Array, "B H T P"]:
        """Weights of the patches, renormalised where other keys took a share of them."""
        weights, mass = self._weights()
        return weights if mass is None else weights / jnp.where(mass == 0, 1, mass)[..., None]

    def shares(self) -> Float[Array, "B H T P"]:
        """Shares of all the weight that fall on each patch: a row sums to `mass`."""
        return self._weights()[0]

    def mass(self) -> Float[Array, "B H T"]:
        """The share of the weight that falls on patches."""
        weights, mass = self._weights()
        return weights.sum(axis=-1) if mass is None else mass

    def _weights(self):
        """Of the patches, and their sum where it is not 1."""
        if self.shared:
            assert self.through is not None
            words = self.trace.weights()[:, :, : -self.shared, -self.shared :]
            patches = self.through.weights()[:, :, -self.shared :].mean(1)
            weights = jnp.einsum("bhtr,brs->bhts", words, patches)
        else:
            weights = self.trace.weights(through=self.through)
        weights = self._by_text(weights)
        traces = [trace for trace in (self.trace, self.through) if trace is not None]
        others = any(trace.key_lse is not None for trace in traces)
        if weights.shape[-1] == self.patches and not (self.shared or others):
            return weights, None
        weights = weights[..., : self.patches]
        return weights, weights.sum(axis=-1)

    def _by_text(self, weights):
        """(I, H, N T, S) of N texts side by side as (I N, H, T, S)."""
        (rows, H, T, S), N = weights.shape, self.texts
        split = weights.reshape(rows, H, N, T // N, S)
        return split.swapaxes(1, 2).reshape(rows * N, H, T // N, S)


jax.tree_util.register_dataclass(
    ImageAttention,
    data_fields=["trace", "through"],
    meta_fields=["patches", "texts", "shared"],
)
