"""Two streams read each other with weights of their own."""

from functools import partial

from flax import linen as nn

from crossattn.nn.attention import CrossAttention
from crossattn.nn.module import Module
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float
from crossattn.sharding import ContextParallel

__all__ = ["CoAttention"]


class CoAttention(Module):
    """Two streams read each other, each with its own weights (ViLBERT: Lu et al. 2019; METER).

    Attributes:
      width: M of both streams.
      heads: H.
      layout: of queries and keys over devices, as in `CrossAttention`.
    """

    width: int
    heads: int
    layout: ContextParallel | None = None

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "B S M"],
        *,
        mask: Mask,
        context_to_x: Mask | None,
    ) -> tuple[Float[Array, "B T M"], Float[Array, "B S M"] | None, AttentionTrace]:
        """What x reads under `mask`, what the context reads of x, the former's trace.

        Both read the other as it came in. Without `context_to_x` the context reads nothing (None).
        """
        attention = partial(CrossAttention, self.width, self.heads, layout=self.layout)
        read, trace = attention(name="forth")(x, context, mask=mask)
        if context_to_x is None:
            return read, None, trace
        answer, _ = attention(name="back")(context, x, mask=context_to_x)
        return read, answer, trace
