"""The definition of attention: what every other implementation must equal.

softmax over the visible keys of `softcap(scale * q k) + bias`, times v, in float32 or float64
(Vaswani et al. 2017, "Attention is all you need"; grouped heads: Ainslie et al. 2023, "GQA";
soft-cap: Gemma Team 2024, "Gemma 2"; the order scale, soft-cap, bias, mask is that of ONNX
Attention 23 and FlashAttention).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.ops.dropout import kept
from crossattn.ops.kernels.protocol import AttentionCall, Kernel
from crossattn.shapes import Array, Bool, Float

__all__ = ["KERNEL", "precision", "scores"]

HIGHEST = jax.lax.Precision.HIGHEST


def precision(dtype: Any) -> Any:
    """What softmax and sums are taken in: float64 for float64, else float32."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def scores(
    q: Float[Array, "B R H D"],
    k: Float[Array, "B S K D"],
    visible: Bool[Array, "#B #H #R #S"],
    bias: Float[Array, "#B #H #R #S"] | None,
    scale: float,
    softcap: float | None,
) -> tuple[Float[Array, "B H R S"], Bool[Array, "B H R S"]]:
    """Scores, -inf where a query does not see a key, and that visibility; a bias of -inf hides."""
    B, R, H, _ = q.shape
    _, S, K, _ = k.shape
    dtype = precision(q.dtype)
    if bias is not None:
        visible = visible & (bias != -jnp.inf)
    visible = jnp.broadcast_to(visible, (B, H, R, S))
    # What nobody sees may hold NaN, and 0 * NaN is NaN: it becomes 0 before any product.
    q = jnp.where(visible.any(3).transpose(0, 2, 1)[..., None], q.astype(dtype), 0)
    seen = visible.reshape(B, K, H // K * R, S).any(2).transpose(0, 2, 1)
    k = jnp.where(seen[..., None], k.astype(dtype), 0)
    s = jnp.einsum("BTHD,BSHD->BHTS", q, jnp.repeat(k, H // K, 2), precision=HIGHEST) * scale
    if softcap is not None:
        s = softcap * jnp.tanh(s / softcap)
    if bias is not None:
        s = s + bias.astype(dtype)
    return jnp.where(visible, s, -jnp.inf), visible


@dataclasses.dataclass(frozen=True)
class ReferenceKernel(Kernel):
    """The formulas as they stand; keeps T x S arrays."""

    name = "reference"
    summary = "the definition, dense, differentiated by autodiff: for tests"
    any_size = True
    undropped = None
    autodiff = True

    def forward(self, call: AttentionCall) -> tuple[Array, Array]:
        """(out in v.dtype, lse)."""
        q, k, v = call.q, call.k, call.v
        B, T, S, H, K = call.sizes
        visible = call.mask.visible(B, T, S)
        s, visible = scores(q, k, visible, call.bias, call.scale, call.softcap)
        seen = visible.reshape(B, K, H // K * T, S).any(2).transpose(0, 2, 1)
        values = jnp.where(seen[..., None], v.astype(s.dtype), 0)
        valid = visible.any(3)
        # The maximum only keeps exp in range; its gradient is 0 and must not meet an empty row.
        m = jnp.where(valid, jax.lax.stop_gradient(s.max(3, initial=-jnp.inf)), 0)[..., None]
        p = jnp.exp(s - m)
        z = jnp.where(valid[..., None], p.sum(3, keepdims=True), 1)
        keep = kept(call.dropout, s.shape, s.dtype)
        weights = p / z if keep is None else p / z * keep
        values = jnp.repeat(values, H // K, 2)
        out = jnp.einsum("BHTS,BSHV->BTHV", weights, values, precision=HIGHEST)
        lse = jnp.where(valid, (m + jnp.log(z))[..., 0], -jnp.inf)
        # A cotangent at an empty row meets p = 0 and would leak if it were NaN.
        out = jnp.where(valid.transpose(0, 2, 1)[..., None], out, 0)
        return out.astype(v.dtype), lse


KERNEL = ReferenceKernel()
