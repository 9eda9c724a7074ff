"""Transformer blocks and the scanned stack of them."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn.nn.attention import CrossAttention, ProjectedContext, SelfAttention
from crossattn.nn.context import check_shared
from crossattn.nn.dtypes import promoted
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.norm import LayerNorm
from crossattn.nn.module import Module
from crossattn.nn.scan import scan_layers
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float
from crossattn.sharding import ContextParallel


class DecoderBlock(Module):
    """Pre-norm decoder block: x += SA(LN x); x += A(LN x, context); x += F(LN x).

    The context is not normed again (as in Whisper and GPT-2 style decoders). Several neighbouring
    rows of `x` may share one context: with I contexts the cross-attention sees its queries as
    (I, B T / I, M), so that keys and values are neither repeated nor projected again.

    Attributes:
      width: M.
      heads: H.
      expansion: hidden width of the feed-forward layer, in units of M.
      layout: of queries and context over devices, as in `CrossAttention`.
    """

    width: int
    heads: int
    expansion: int = 4
    layout: ContextParallel | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | ProjectedContext,
        *,
        self_mask: Mask | None = None,
        mask: Mask | None = None,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace]:
        """Returns the new stream and the trace of the cross-attention.

        `mask` and the trace are those of I contexts with B T / I queries each.
        """
        x, context = promoted(None, x, context)
        contexts = (context.keys if isinstance(context, ProjectedContext) else context).shape[0]
        check_shared(x.shape[0], contexts)
        y, _ = SelfAttention(self.width, self.heads, name="self_attention")(
            LayerNorm(name="self_norm")(x), mask=self_mask
        )
        x = x + y
        attention = CrossAttention(
            self.width, self.heads, layout=self.layout, name="cross_attention"
        )
        queries = LayerNorm(name="cross_norm")(x).reshape(contexts, -1, self.width)
        y, trace = attention(queries, context, mask=mask)
        x = x + y.reshape(x.shape)
        feed_forward = MLP(self.expansion, name="feed_forward")
        return x + feed_forward(LayerNorm(name="feed_forward_norm")(x)), trace


class DecoderStack(Module):
    """`layers` decoder blocks under one `scan`: compile time does not grow with depth.

    Parameters carry a leading axis L. Fields: as those of `DecoderBlock`, and the number of layers.
    """

    layers: int
    width: int
    heads: int
    expansion: int = 4
    layout: ContextParallel | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "*L I S N"],
        *,
        self_mask: Mask | None = None,
        mask: Mask | None = None,
        seen: Bool[Array, "L I S"] | None = None,
        beside: Any = None,
        observe: Callable[..., Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the stack.

        Args:
          x: (B, T, M).
          context: (I, S, N), read by every layer, or (L, I, S, N), one for each layer; B is a
            multiple of I.
          self_mask: mask of the self-attention.
          mask: mask of the cross-attention.
          seen: keys that each layer may see besides: interventions in single layers.
          beside: a pytree with a leading axis L, of which `observe` gets each layer's entry as a
            second argument: traces of what made the contexts.
          observe: applied to every layer's trace inside the scanned body, so that only the small
            statistics that it returns are kept.

        Returns:
          The stream (B, T, M) and what `observe` returned, with a leading axis L.
        """
        x, context = promoted(None, x, context)
        one_each = context.ndim == 4

        def step(block, x, self_mask, mask, context, own):
            mine, keys, beside = own
            context = mine if one_each else context
            mask = _joined(mask, keys)
            x, trace = block(x, context, self_mask=self_mask, mask=mask)
            return x, observe(trace) if beside is None else observe(trace, beside)

        block = DecoderBlock(self.width, self.heads, self.expansion, self.layout, name="blocks")
        shared = (self_mask, mask, None if one_each else context)
        own = (context if one_each else None, seen, beside)
        return scan_layers(step, block, x, shared, (own,), layers=self.layers)


def _joined(mask: Mask | None, keys: Bool[Array, "I S"] | None) -> Mask:
    mask = Mask() if mask is None else mask
    return mask if keys is None else mask & Mask.keys(keys)
