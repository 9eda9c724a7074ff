"""What designs of several streams share: attention that gives nothing to those who see nothing."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.context import combine_masks, tokens
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["attend_or_zero", "both", "combine_masks", "required", "zero_unless_visible"]


def required(context: Any) -> None:
    """Refuse a context that is None: no design falls back to self-attention.

    >>> required(None)
    Traceback (most recent call last):
    TypeError: context is required: an array (B, S, N)
    """
    if context is None:
        raise TypeError("context is required: an array (B, S, N)")


def both(
    streams: Sequence[Any], widths: tuple[int, int], *, otherwise: str
) -> tuple[Float[Array, "B T M"], Float[Array, "I S N"]]:
    """x and the context, as wide as a module's streams are.

    Args:
      streams: (x, context).
      widths: those of the module.
      otherwise: what to do about a context of another width.

    Raises:
      TypeError: there is no context.
      ValueError: a stream has another width.

    >>> both((jnp.ones((1, 2, 8)), jnp.ones((1, 3, 6))), (8, 8), otherwise="context_width=6")
    Traceback (most recent call last):
    ValueError: streams of widths 8 and 6 for a module of widths 8 and 8: context_width=6
    """
    x, context = streams
    required(context)
    x, context = tokens("x", x), tokens("context", context)
    found = x.shape[-1], context.shape[-1]
    if found != widths:
        advice = f"x has to have width {widths[0]}" if found[0] != widths[0] else otherwise
        raise ValueError(
            f"streams of widths {found[0]} and {found[1]} for a module of widths "
            f"{widths[0]} and {widths[1]}: {advice}"
        )
    return x, context


def attend_or_zero(
    attention: CrossAttention,
    x: Float[Array, "B T M"],
    context: Float[Array, "B S N"] | ProjectedContext,
    *,
    mask: Mask | None = None,
    x_positions: Float[Array, "_ T _"] | None = None,
    context_positions: Float[Array, "_ S _"] | None = None,
    extra_contexts: Sequence[ProjectedContext] = (),
    intervene: bool = True,
) -> tuple[Float[Array, "B T M"], AttentionTrace]:
    """What x reads of the context; exactly nothing, not even the output bias, where it sees none.

    Positions reach those attentions only that do something with them. Arguments as those of
    `CrossAttention`.
    """
    placed: dict[str, Any] = {}
    if attention.positions is not None:
        placed = {"query_positions": x_positions, "key_positions": context_positions}
    placed |= {"extra_contexts": extra_contexts, "intervene": intervene}
    y, trace = attention(x, context, mask=mask, **placed)
    if attention.extra_keys.have_values:
        return y, trace
    return zero_unless_visible(y, trace.lse != -jnp.inf if extra_contexts else trace.valid), trace


def zero_unless_visible(y: Float[Array, "B T M"], *valid: Array) -> Float[Array, "B T M"]:
    """y where any head saw any key of any of the attentions (each B, H, T), otherwise 0."""
    seeing = jnp.any(jnp.stack(valid), axis=(0, 2))
    return jnp.where(seeing[..., None], y, 0)
