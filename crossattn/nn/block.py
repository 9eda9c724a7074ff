"""The block of any `BlockConfig`."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, check_decode_step, from_position
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.context import check_shared, spread, tokens, zero_masked
from crossattn.nn.dtypes import promoted
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.residual import Residual
from crossattn.nn.module import PolicyModule
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["Block"]


@renamed.arguments(design="config")
class Block(PolicyModule):
    """One layer of a design.

    Attributes:
      width: M.
      heads: H.
      config: what it is made of.
      others: as those of `PolicyModule`.

    Example:
      >>> from crossattn.nn import presets
      >>> block = Block(width=8, heads=2, config=presets.config("flamingo"))
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 4))
      >>> (y, trace), _ = jax.jit(block.init_with_output)(jax.random.key(0), words, patches)
      >>> bool(jnp.all(y == words)), trace.weights().shape  # its gates are closed at the start
      (True, (3, 2, 5, 7))
    """

    width: int
    heads: int
    config: BlockConfig = BlockConfig()

    def setup(self):  # noqa: D102 - Linen calls it
        config, policy = self.config, self.policy
        attention = partial(CrossAttention, self.width, self.heads, **self.policy)
        if "self" in config.order:
            self.self_residual = Residual(config.residual, **policy)
            self.self_attention = attention(**fields_of(config.self_attention))
        if config.reads:
            self.cross_residual = Residual(config.cross_residual or config.residual, **policy)
            self.cross_attention = attention(**fields_of(config.cross_attention))
            if config.project_context:
                self.context_projection = Dense(self.width, **self.dense_policy)
            if config.context_norm is not None:
                norm = config.context_norm, config.residual.epsilon, self.param_dtype
                self.context_norm = Norm(*norm)
        if "mlp" in config.order:
            self.mlp_residual = Residual(config.residual, **policy)
            self.mlp = MLP(**fields_of(config.mlp), **policy)

    def project(
        self,
        context: Float[Array, "B S N"],
        *,
        mask: Mask | None = None,
        key_positions: Float[Array, "_ S _"] | None = None,
    ) -> ProjectedContext:
        """Keys and values of the context, to be read in any number of steps."""
        context = zero_masked(context, mask, None)
        context = self.context_projection(context) if self.config.project_context else context
        context = self.context_norm(context) if self.config.context_norm is not None else context
        return self.cross_attention.project(context, mask=mask, positions=key_positions)

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | ProjectedContext | None,
        *,
        mask: Mask | None = None,
        self_mask: Mask | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        key_positions: Float[Array, "_ S _"] | None = None,
        self_bias: Float[Array, "_ _ _ _"] | None = None,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace | None]:
        """Run the sublayers in their order.

        Args:
          x: queries (B, T, M).
          context: (I, S, N) or what `project` made of it; B is a multiple of I, and the B / I
            neighbouring rows of x that share a context are read as one row of B T / I queries; None
            only where the design reads none.
          mask: what of the context they may see, for I contexts; what sees nothing is not changed
            by attention to the context.
          self_mask: what the queries may see of each other: all, unless `Mask.causal(0)` is given.
          query_positions: of the queries, where the design places them.
          key_positions: of the context, where the design places it and it is not projected.
          self_bias: added to the logits among the queries.

        Returns:
          The new stream, and the trace of the attention to the context (None without one).
        """
        x = tokens("x", x, self.width)
        x, context = promoted(self.dtype, x, context)
        self._check(x, context)
        if self.config.reads and context is not None and not isinstance(context, ProjectedContext):
            context = zero_masked(context, mask, x.shape[0] // context.shape[0] * x.shape[1])
            context = self.project(context, key_positions=key_positions)
        own = {"mask": self_mask, "bias": self_bias}
        x, _, trace = self._run(x, context, (None, None), mask, own, query_positions)
        return x, trace

    def _check(self, x, context):
        if not self.config.reads:
            return
        if context is None:
            raise TypeError("context is required: an array (B, S, N) or block.project(context)")
        if not isinstance(context, ProjectedContext):
            context = tokens("context", context)
        check_shared(x.shape[0], jax.tree.leaves(context)[0].shape[0])

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext | None,
        cache: KVCache,
        position: Int[Array, ""],
        *,
        mask: Mask | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        self_bias: Float[Array, "_ _ _ _"] | None = None,
    ) -> tuple[Float[Array, "B T M"], KVCache, AttentionTrace | None]:
        """The tokens of a causal stream from `position` on, and the cache with them."""
        check_decode_step(self.config, context, cache)
        x = tokens("x", x, self.width)
        self._check(x, context)
        x, context = promoted(self.dtype, x, context)
        own = {"mask": from_position(position), "bias": self_bias}
        return self._run(x, context, (cache, position), mask, own, query_positions)

    def _run(self, x, context, cache, mask, own, positions):
        (cache, position), trace, seeing = cache, None, None
        for sublayer in self.config.order:
            if sublayer == "self":
                attention, y = self.self_attention, self.self_residual.before(x)
                keys, cache = self._own_keys(attention, y, cache, position, positions)
                y, _ = attention(y, keys, **_placed(attention, positions), **own)
                x = self.self_residual(x, y)
            elif sublayer == "mlp":
                y = self.mlp(self.mlp_residual.before(x))
                if self.config.skip_mlp_without_context and seeing is not None:
                    y = jnp.where(seeing, y, 0)
                x = self.mlp_residual(x, y)
            else:
                attention, y = self.cross_attention, self.cross_residual.before(x)
                extra_contexts = []
                if sublayer == "merged":
                    keys, cache = self._own_keys(attention, y, cache, position, positions)
                    extra_contexts = [keys.replace(mask=own["mask"])]
                y, trace, seeing = self._read(y, context, mask, extra_contexts, positions)
                x = self.cross_residual(x, y)
        return x, cache, trace

    def _own_keys(self, attention, y, cache, position, positions):
        """Keys and values of the queries themselves, and of those before them."""
        keys = attention.project(y, positions=None if attention.positions is None else positions)
        if cache is None:
            return keys, None
        cache = cache.extended(keys, position)
        return ProjectedContext(cache.keys.astype(y.dtype), cache.values.astype(y.dtype)), cache

    def _read(self, y, context, mask, extra_contexts, positions):
        """Attention to the context; a query that sees nothing gets exactly nothing."""
        attention, alone = self.cross_attention, self.config.concat_queries or bool(extra_contexts)
        if alone or attention.logits.competition == "queries":
            context, mask = spread(context, mask, y.shape[0])
        rows = y.reshape(context.keys.shape[0], -1, self.width)
        extra_contexts = (
            [*extra_contexts, attention.project(rows)]
            if self.config.concat_queries
            else extra_contexts
        )
        if positions is not None and rows.shape != y.shape:
            positions = jnp.broadcast_to(positions, (*y.shape[:2], positions.shape[-1]))
            positions = positions.reshape(*rows.shape[:2], positions.shape[-1])
        read, trace = attention(
            rows, context, mask=mask, extra_contexts=extra_contexts, **_placed(attention, positions)
        )
        read = read.reshape(y.shape)
        seeing = jnp.any(trace.valid, axis=1).reshape(*y.shape[:2], 1)
        if not (extra_contexts or attention.extra_keys.have_values):
            read = jnp.where(seeing, read, 0)
        return read, trace, seeing


def _placed(attention: CrossAttention, positions: Any) -> dict[str, Any]:
    """Positions for those designs only that do something with them."""
    return {} if attention.positions is None else {"query_positions": positions}
