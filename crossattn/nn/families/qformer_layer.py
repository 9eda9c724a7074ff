"""One layer of a Q-Former."""

from functools import partial

import jax.numpy as jnp

from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, from_position
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.context import spread
from crossattn.nn.dtypes import promoted
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.residual import Residual
from crossattn.nn.module import PolicyModule
from crossattn.nn.sublayers import attend_or_zero
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["QFormerLayer"]


class QFormerLayer(PolicyModule):
    """Attention over [queries ; words]; queries read the context; each has its feed-forward layer.

    Attributes:
      width: M.
      heads: H.
      config: of the sublayers; without "cross" in its order the context is not read.
    """

    width: int
    heads: int
    config: BlockConfig = BlockConfig()

    def setup(self):  # noqa: D102 - Linen calls it
        config, policy = self.config, self.policy
        attention = partial(CrossAttention, self.width, self.heads, **self.policy)
        join, mlp = partial(Residual, **policy), partial(MLP, **fields_of(config.mlp), **policy)
        self.self_residual = join(config=config.residual)
        self.self_attention = attention(**fields_of(config.self_attention))
        self.cross_residual = join(config=config.cross_residual or config.residual)
        self.cross_attention = attention(**fields_of(config.cross_attention))
        self.mlp_residual, self.text_mlp_residual = (join(config=config.residual) for _ in range(2))
        self.mlp, self.text_mlp = mlp(), mlp()

    def __call__(
        self,
        streams: tuple[Float[Array, "B R M"], Float[Array, "B T M"] | None],
        context: Float[Array, "B S N"],
        *,
        mask: Mask | None = None,
        self_mask: Mask | None = None,
    ) -> tuple[tuple[Float[Array, "B R M"], Float[Array, "B T M"] | None], AttentionTrace | None]:
        """Returns queries and words, and the trace of the queries reading the context."""
        queries, text = streams
        joint = queries if text is None else jnp.concatenate([queries, text], axis=1)
        read = self.self_residual.before(joint)
        y, _ = attend_or_zero(self.self_attention, read, read, mask=self_mask)
        joint = self.self_residual(joint, y)
        trace: AttentionTrace | None = None
        queries, words = jnp.split(joint, [queries.shape[1]], axis=1)
        if "cross" in self.config.order:
            read = self.cross_residual.before(queries)
            y, trace = attend_or_zero(self.cross_attention, read, context, mask=mask)
            queries = self.cross_residual(queries, y)
        queries = self.mlp_residual(queries, self.mlp(self.mlp_residual.before(queries)))
        if text is None:
            return (queries, None), trace
        return (queries, self._feeds_words(words)), trace

    def project(self, queries: Float[Array, "B R M"]) -> ProjectedContext:
        """Keys and values of the queries, for words that read them."""
        return self.self_attention.project(self.self_residual.before(queries))

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        queries: ProjectedContext,
        cache: KVCache,
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B T M"], KVCache]:
        """The words from `position` on, which read the queries and the words before them."""
        read = self.self_residual.before(x)
        cache = cache.extended(self.self_attention.project(read), position)
        (here,) = promoted(
            x.dtype, ProjectedContext(cache.keys, cache.values, from_position(position))
        )
        queries, _ = spread(queries, None, x.shape[0])
        y, _ = attend_or_zero(self.self_attention, read, queries, extra_contexts=[here])
        return self._feeds_words(self.self_residual(x, y)), cache

    def _feeds_words(self, words: Array) -> Array:
        y = self.text_mlp(self.text_mlp_residual.before(words))
        return self.text_mlp_residual(words, y)
