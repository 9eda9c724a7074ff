"""Trace: what an attention looked at, computed afterwards, only if asked."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.reference import scores
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["Trace"]


@dataclasses.dataclass(frozen=True)
class Trace:
    """Refers to the arrays of one attention; every map and statistic is a pure function of it.

    A pytree. Under `jit` an unused trace costs nothing: it holds only what exists anyway. Results
    are exact under any mask, bias and soft-cap, in float32 (float64 for float64), 0 for a query
    that sees no key, and differentiable in reverse mode.

    >>> import jax
    >>> from crossattn import attend
    >>> x = jax.random.normal(jax.random.key(0), (2, 5, 3, 8))
    >>> out, trace = attend(x[:, :2], x, x)
    >>> trace.rows(jnp.array([1])).shape, trace.entropy(normalized=True).shape
    ((2, 3, 1, 5), (2, 3, 2))
    """

    q: Any
    k: Any
    mask: Any
    bias: Any
    lse: Any
    scale: float
    softcap: float | None

    @property
    def valid(self) -> Bool[Array, "B H T"]:
        """Whether the query sees any key at all."""
        return self.lse != -jnp.inf

    def rows(
        self, queries: Int[Array, " R"] | Int[Array, "B R"] | None = None
    ) -> Float[Array, "B H R S"]:
        """Attention weights of the queries at (R,) or (B, R), integers in [0, T); None = all."""
        _, log_p = self._log_rows(queries)
        return jnp.exp(log_p)

    def peak(self) -> tuple[Float[Array, "B H T"], Int[Array, "B H T"]]:
        """Largest weight of each query and the first key that has it; (0, 0) without a key."""
        p = self.rows()
        return p.max(3, initial=0), jnp.argmax(p, axis=3).astype(jnp.int32)

    def entropy(self, normalized: bool = False) -> Float[Array, "B H T"]:
        """Entropy of each query's weights in nats.

        `normalized` divides by the logarithm of the number of visible keys, its largest value: 1 is
        uniform; 0 where one key or none is visible.
        """
        visible, log_p = self._log_rows(None)
        entropy = -jnp.sum(jnp.exp(log_p) * jnp.where(visible, log_p, 0), axis=3)
        if not normalized:
            return entropy
        count = visible.sum(3)
        several = count > 1
        return jnp.where(
            several, entropy / jnp.log(jnp.where(several, count, 2).astype(entropy.dtype)), 0
        )

    def expect(
        self, columns: Float[Array, "B S R"] | Bool[Array, "B S R"]
    ) -> Float[Array, "B H T R"]:
        """Expectation of each column under the weights.

        Mass of (soft, overlapping) regions, expected position, anything that is a number per key.
        """
        visible, log_p = self._log_rows(None)
        # A column may hold NaN where nobody looks, and 0 * NaN is NaN.
        seen = visible.any((1, 2))[..., None]
        columns = jnp.where(seen, columns.astype(log_p.dtype), 0)
        return jnp.einsum(
            "BHTS,BSR->BHTR", jnp.exp(log_p), columns, precision=jax.lax.Precision.HIGHEST
        )

    # As in xla.py: one compilation for a call outside of jit, inlined within.
    @partial(jax.jit, inline=True)
    def _log_rows(self, queries: Any) -> tuple[Array, Array]:
        """Visibility and log-weights (-inf where invisible) of the chosen queries."""
        (B, T, _, _), S = self.q.shape, self.k.shape[1]
        q, bias, lse, rows = self.q, self.bias, self.lse, None
        if queries is not None:
            rows = queries if queries.ndim == 2 else queries[None]
            take = jax.vmap(lambda x, r: jnp.take(x, r, axis=0))
            each = jnp.broadcast_to(rows, (B, rows.shape[1]))
            q = take(q, each)
            lse = take(lse.swapaxes(1, 2), each).swapaxes(1, 2)
            if bias is not None and bias.shape[2] > 1:
                bias = jnp.broadcast_to(bias, (B, *bias.shape[1:]))
                bias = take(bias.swapaxes(1, 2), each).swapaxes(1, 2)
        s, visible = scores(
            q, self.k, self.mask.visible(B, T, S, rows), bias, self.scale, self.softcap
        )
        return visible, s - jnp.where(lse == -jnp.inf, 0, lse)[..., None]


jax.tree_util.register_dataclass(
    Trace, data_fields=["q", "k", "mask", "bias", "lse"], meta_fields=["scale", "softcap"]
)
