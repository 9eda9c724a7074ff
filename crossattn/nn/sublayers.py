"""What designs of several streams share: attention that gives nothing to those who see nothing."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from crossattn.nn.attention import CrossAttention, Projected
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Float

__all__ = ["conjunction", "look", "only_seeing"]


def look(
    attention: CrossAttention,
    x: Float[Array, "B T M"],
    context: Float[Array, "B S N"] | Projected,
    *,
    mask: Mask | None = None,
    x_positions: Float[Array, "_ T _"] | None = None,
    context_positions: Float[Array, "_ S _"] | None = None,
    beside: Sequence[Projected] = (),
) -> tuple[Float[Array, "B T M"], Trace]:
    """What x reads of the context; exactly nothing, not even the output bias, where it sees none.

    Positions reach those attentions only that do something with them.
    """
    placed: dict[str, Any] = {}
    if attention.placing is not None:
        placed = {"query_positions": x_positions, "key_positions": context_positions}
    y, trace = attention(x, context, mask=mask, beside=beside, **placed)
    if attention.spare.read:
        return y, trace
    return only_seeing(y, trace.lse != -jnp.inf if beside else trace.valid), trace


def only_seeing(y: Float[Array, "B T M"], *valid: Array) -> Float[Array, "B T M"]:
    """y where any head saw any key of any of the attentions (each B, H, T), otherwise 0."""
    seeing = jnp.any(jnp.stack(valid), axis=(0, 2))
    return jnp.where(seeing[..., None], y, 0)


def conjunction(*masks: Mask | None) -> Mask:
    """Visible where all masks show it; None hides nothing."""
    joined = Mask()
    for mask in masks:
        joined = joined if mask is None else joined & mask
    return joined
