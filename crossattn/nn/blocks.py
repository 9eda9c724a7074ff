"""Transformer blocks and the scanned stack of them."""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from crossattn.nn.attention import CrossAttention, Projected, SelfAttention
from crossattn.nn.linear import Dense
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Float


class FeedForward(nn.Module):
    """Two dense layers with a GELU between them; hidden width `expansion` times M."""

    expansion: int = 4

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """Map each token by itself."""
        hidden = nn.gelu(Dense(self.expansion * x.shape[-1], name="up")(x))
        return Dense(x.shape[-1], name="down")(hidden)


class DecoderBlock(nn.Module):
    """Pre-norm decoder block: x += SA(LN x); x += A(LN x, context); x += F(LN x).

    The context is not normed again (as in Whisper and GPT-2 style decoders). Several neighbouring
    rows of `x` may share one context: with I contexts the cross-attention sees its queries as
    (I, B T / I, M), so that keys and values are neither repeated nor projected again.

    Attributes:
      width: M.
      heads: H.
      expansion: hidden width of the feed-forward layer, in units of M.
    """

    width: int
    heads: int
    expansion: int = 4

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | Projected,
        *,
        self_mask: Mask | None = None,
        mask: Mask | None = None,
    ) -> tuple[Float[Array, "B T M"], Trace]:
        """Returns the new stream and the trace of the cross-attention.

        `mask` and the trace are those of I contexts with B T / I queries each.
        """
        contexts = (context.keys if isinstance(context, Projected) else context).shape[0]
        y, _ = SelfAttention(self.width, self.heads, name="self_attention")(
            nn.LayerNorm(name="self_norm")(x), mask=self_mask
        )
        x = x + y
        y, trace = CrossAttention(self.width, self.heads, name="cross_attention")(
            nn.LayerNorm(name="cross_norm")(x).reshape(contexts, -1, self.width), context, mask=mask
        )
        x = x + y.reshape(x.shape)
        feed_forward = FeedForward(self.expansion, name="feed_forward")
        return x + feed_forward(nn.LayerNorm(name="feed_forward_norm")(x)), trace


class DecoderStack(nn.Module):
    """`layers` decoder blocks under one `scan`: compile time does not grow with depth.

    Parameters carry a leading axis L. Two layers make one turn of the loop, which saves a fifth of
    a shallow stack's training step on a CPU: less is copied in and out of the loop.
    """

    layers: int
    width: int
    heads: int
    expansion: int = 4

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"],
        *,
        self_mask: Mask | None = None,
        mask: Mask | None = None,
        observe: Callable[[Trace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the stack.

        Args:
          x: (B, T, M).
          context: (I, S, N), read by every layer; B is a multiple of I.
          self_mask: mask of the self-attention.
          mask: mask of the cross-attention.
          observe: applied to every layer's trace inside the scanned body, so that only the small
            statistics that it returns are kept.

        Returns:
          The stream (B, T, M) and what `observe` returned, with a leading axis L.
        """

        def body(block, x, context, self_mask, mask):
            x, trace = block(x, context, self_mask=self_mask, mask=mask)
            return x, observe(trace)

        scanned = nn.scan(
            body,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.layers,
            unroll=2,
        )
        return scanned(
            DecoderBlock(self.width, self.heads, self.expansion, name="blocks"),
            x,
            context,
            self_mask,
            mask,
        )


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
