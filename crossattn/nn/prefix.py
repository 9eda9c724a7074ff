"""Words behind a prefix: context and text in one stream with the same weights."""

from flax import linen as nn

from crossattn.nn.attention import CrossAttention
from crossattn.nn.block import Joined
from crossattn.nn.blocks import FeedForward
from crossattn.nn.design import Design
from crossattn.nn.sublayers import conjunction, look
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Float

__all__ = ["Prefix"]


class Prefix(nn.Module):
    """Self-attention over [context ; x], then a feed-forward layer (GIT: Wang et al. 2022).

    The context stands first and reads itself; the words read both, under one softmax. Nothing of
    the size (S + T)^2 is made: the two parts of the words' keys are read side by side.

    Attributes:
      width: M.
      heads: H.
      design: its `join`, `own` and `feed`; what it says of the context does not apply.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn.stream_presets import prefix_lm
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 8))
      >>> ((x, context), trace), _ = jax.eval_shape(
      ...     lambda: prefix_lm(width=8, heads=2).init_with_output(
      ...         jax.random.key(0), (words, patches)))
      >>> x.shape, context.shape, trace.lse.shape
      ((3, 5, 8), (3, 7, 8), (3, 2, 5))
    """

    width: int
    heads: int
    design: Design = Design(order=("self", "feed"))

    def setup(self):  # noqa: D102 - Linen calls it
        self.self_join = Joined(self.design.join)
        self.self_attention = CrossAttention(self.width, self.heads, **self.design.own)
        self.feed_join = Joined(self.design.join)
        self.feed_forward = FeedForward(**self.design.feed)

    def __call__(
        self,
        streams: tuple[Float[Array, "B T M"], Float[Array, "B S M"]],
        *,
        x_mask: Mask | None = None,
        context_mask: Mask | None = None,
        self_mask: Mask | None = None,
        x_positions: Float[Array, "_ T _"] | None = None,
        context_positions: Float[Array, "_ S _"] | None = None,
    ) -> tuple[tuple[Float[Array, "B T M"], Float[Array, "B S M"]], Trace]:
        """Run the layer.

        Args:
          streams: words (B, T, M) and context (B, S, M).
          x_mask: which words are there.
          context_mask: which tokens of the context are there.
          self_mask: what the words may see of each other; their own past when None.
          x_positions: of the words, where the design places them.
          context_positions: of the context, likewise.

        Returns:
          Both streams, and the trace of the words reading the context: its weights sum to less than
          1, the words have the rest.
        """
        x, context = streams
        attention, self_mask = self.self_attention, self_mask or Mask.causal(0)
        words, tokens = self.self_join.before(x), self.self_join.before(context)
        there = attention.project(tokens, mask=context_mask, positions=context_positions)
        seen = conjunction(self_mask, x_mask)
        here = attention.project(words, mask=seen, positions=x_positions)
        answer, _ = look(attention, tokens, there, x_positions=context_positions)
        read, trace = look(attention, words, there, x_positions=x_positions, beside=[here])
        return (
            self._fed(self.self_join(x, read)),
            self._fed(self.self_join(context, answer)),
        ), trace

    def _fed(self, stream: Array) -> Array:
        return self.feed_join(stream, self.feed_forward(self.feed_join.before(stream)))
