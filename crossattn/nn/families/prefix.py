"""Words behind a prefix: context and text in one stream with the same weights."""

from dataclasses import replace

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, from_position
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.context import spread, zero_masked
from crossattn.nn.dtypes import promoted
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.residual import Residual
from crossattn.nn.module import PolicyModule
from crossattn.nn.sublayers import attend_or_zero, both, combine_masks
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["Prefix"]


@renamed.arguments(design="config")
class Prefix(PolicyModule):
    """Self-attention over [context ; x], then a feed-forward layer (GIT: Wang et al. 2022).

    The context stands first and reads itself; the words read both, under one softmax. Nothing of
    the size (S + T)^2 is made: the two parts of the words' keys are read side by side.

    Attributes:
      width: M.
      heads: H.
      config: its `residual`, `self_attention` and `mlp`; what it says of the context does not
        apply.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 8))
      >>> ((x, context), trace), _ = jax.eval_shape(
      ...     lambda: Prefix(width=8, heads=2).init_with_output(
      ...         jax.random.key(0), (words, patches)))
      >>> x.shape, context.shape, trace.lse.shape
      ((3, 5, 8), (3, 7, 8), (3, 2, 5))
    """

    width: int
    heads: int
    config: BlockConfig = BlockConfig(order=("self", "mlp"))

    def setup(self):  # noqa: D102 - Linen calls it
        config, policy = self.config, self.policy
        self.self_residual = Residual(config.residual, **policy)
        own = fields_of(config.self_attention) | self.policy
        self.self_attention = CrossAttention(self.width, self.heads, **own)
        self.mlp_residual = Residual(config.residual, **policy)
        self.mlp = MLP(**fields_of(config.mlp), **policy)

    def __call__(
        self,
        streams: tuple[Float[Array, "B T M"], Float[Array, "I S M"]],
        *,
        x_mask: Mask | None = None,
        context_mask: Mask | None = None,
        self_mask: Mask | None = None,
        x_positions: Float[Array, "_ T _"] | None = None,
        context_positions: Float[Array, "_ S _"] | None = None,
        readable: Mask | None = None,
        context_after: bool = True,
    ) -> tuple[tuple[Float[Array, "B T M"], Float[Array, "I S M"]], AttentionTrace]:
        """Run the layer.

        Args:
          streams: words (B, T, M) and context (I, S, M), which B / I neighbouring texts share.
          x_mask: which words are there.
          context_mask: which tokens of the context are there.
          self_mask: what the words may see of each other; the words before them when None.
          x_positions: of the words, where the design places them.
          context_positions: of the context, likewise.
          readable: tokens of the context that may be read in this layer, a mask of keys; others
            keep a stream of their own.
          context_after: whether the context is read behind this layer; if not it comes out as it
            came in.

        Returns:
          Both streams, and the trace of the words reading the context: its weights sum to less than
          1, the words have the rest.

        Raises:
          TypeError: there is no context.
          ValueError: a stream has another width.
        """
        advice = "a prefix has no context_width=, map the context to the width of the words first"
        x, context = both(streams, (self.width, self.width), otherwise=advice)
        x, context = promoted(self.dtype, x, context)
        seen = combine_masks(self_mask or Mask.causal(0), x_mask)
        x = zero_masked(x, x_mask, x.shape[1])
        context = zero_masked(context, context_mask, context.shape[1])
        shown: Mask | None = combine_masks(context_mask, readable)
        context, there = self._read_itself(context, shown, context_positions, context_after)
        there, shown = spread(there, shown, x.shape[0])
        there = replace(there, mask=shown)
        words = self.self_residual.before(x)
        here = self.self_attention.project(words, mask=seen, positions=x_positions)
        x, trace = self._reads(x, words, there, here, x_positions)
        return (x, context), trace

    def project(
        self,
        context: Float[Array, "B S M"],
        *,
        context_mask: Mask | None = None,
        context_positions: Float[Array, "_ S _"] | None = None,
    ) -> tuple[Float[Array, "B S M"], ProjectedContext]:
        """The context behind this layer, and the keys and values that words read of it."""
        context = zero_masked(context, context_mask, context.shape[1])
        return self._read_itself(context, context_mask, context_positions, True)

    def _read_itself(self, context, mask, positions, after):
        tokens, attention = self.self_residual.before(context), self.self_attention
        there = attention.project(tokens, positions=positions)
        if not after:
            return context, there
        where = {"mask": mask, "x_positions": positions, "intervene": False}
        answer, _ = attend_or_zero(attention, tokens, there, **where)
        return self._fed(self.self_residual(context, answer)), there

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext,
        cache: KVCache,
        position: Int[Array, ""],
        *,
        context_mask: Mask | None = None,
        x_positions: Float[Array, "_ T _"] | None = None,
    ) -> tuple[Float[Array, "B T M"], KVCache, AttentionTrace]:
        """The words from `position` on, and the cache with them."""
        x, context = promoted(self.dtype, x, context)
        words = self.self_residual.before(x)
        cache = cache.extended(self.self_attention.project(words, positions=x_positions), position)
        (here,) = promoted(
            x.dtype, ProjectedContext(cache.keys, cache.values, from_position(position))
        )
        context, context_mask = spread(context, context_mask, x.shape[0])
        context = replace(context, mask=context_mask)
        x, trace = self._reads(x, words, context, here, x_positions)
        return x, cache, trace

    def _reads(self, x, words, there, here, positions):
        """The stream after its words have read both parts and are fed."""
        attention = self.self_attention
        read, trace = attend_or_zero(
            attention, words, there, x_positions=positions, extra_contexts=[here]
        )
        return self._fed(self.self_residual(x, read)), trace

    def _fed(self, stream: Array) -> Array:
        return self.mlp_residual(stream, self.mlp(self.mlp_residual.before(stream)))
