"""Learned queries that read an image and talk to a text (Q-Former)."""

from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, empty_cache
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.context import tokens
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.qformer_layer import QFormerLayer
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import Remat, policy_of
from crossattn.nn.sublayers import required
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["QFormer", "joint_mask"]

Talk = Literal["bidirectional", "causal", "unimodal"]


def joint_mask(talk: Talk, R: int, T: int, *, words: Bool[Array, "B T"] | None = None) -> Mask:
    """What R queries and T words, standing behind them, see of each other.

    The three masks of BLIP-2 (Li et al. 2023, figure 2) for its three losses, here R = 2, T = 3:

        bidirectional      causal             unimodal
        (matching)         (generation)       (contrast)
        1 1 1 1 1          1 1 0 0 0          1 1 0 0 0
        1 1 1 1 1          1 1 0 0 0          1 1 0 0 0
        1 1 1 1 1          1 1 1 0 0          0 0 1 1 1
        1 1 1 1 1          1 1 1 1 0          0 0 1 1 1
        1 1 1 1 1          1 1 1 1 1          0 0 1 1 1

    Args:
      talk: which of the three.
      R: number of queries.
      T: number of words.
      words: which words are there; all when None.

    Example:
      >>> joint_mask("causal", 1, 2).dense_array(1, 3, 3)[0, 0].astype(int).tolist()
      [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    position = jnp.arange(R + T)
    row, column = position[:, None], position[None, :]
    same = (row < R) == (column < R)
    seen = {
        "bidirectional": jnp.ones_like(same),
        "causal": jnp.where(row < R, column < R, column <= row),
        "unimodal": same,
    }[talk]
    mask = Mask.dense(seen[None, None])
    if words is None:
        return mask
    queries = jnp.ones((words.shape[0], R), bool)
    return mask & Mask.keys(jnp.concatenate([queries, words], axis=1))


@renamed.arguments(design="config")
class QFormer(PolicyModule):
    """A Transformer whose first tokens are learned queries, which alone read the context.

    (BLIP-2: Li et al. 2023; with the words of an instruction, InstructBLIP: Dai et al. 2023.) The
    layers are not scanned: those that read the context and those that do not take turns.

    Attributes:
      layers: L.
      width: M.
      heads: H.
      queries: R.
      every: the context is read by layers 0, `every`, 2 `every`, ...
      config: of the layers that read it.
      remat: as in `Stack`.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> module = presets.build("qformer", width=8, heads=2, layers=2, queries=3)
      >>> image, words = jnp.ones((2, 7, 5)), jnp.ones((2, 4, 8))
      >>> ((queries, text), traces), _ = jax.eval_shape(lambda: module.init_with_output(
      ...     jax.random.key(0), image, words, self_mask=joint_mask("causal", 3, 4)))
      >>> queries.shape, text.shape, [trace.lse.shape for trace in traces]
      ((2, 3, 8), (2, 4, 8), [(2, 2, 3)])
    """

    layers: int
    width: int
    heads: int
    queries: int = 32
    every: int = 2
    config: BlockConfig = BlockConfig()
    remat: Remat = None

    def setup(self):  # noqa: D102 - Linen calls it
        layer = QFormerLayer
        if self.remat is not None:
            layer = nn.remat(layer, policy=policy_of(self.remat))
        config = self.config
        blind = replace(config, order=tuple(one for one in config.order if one != "cross"))
        self.norm = Norm(config.residual.norm_kind, config.residual.epsilon, self.param_dtype)
        self.layer = [
            layer(self.width, self.heads, blind if i % self.every else config, **self.policy)
            for i in range(self.layers)
        ]

    def __call__(
        self,
        context: Float[Array, "B S N"],
        text: Float[Array, "B T M"] | None = None,
        *,
        mask: Mask | None = None,
        self_mask: Mask | None = None,
    ) -> tuple[
        tuple[Float[Array, "B R M"], Float[Array, "B T M"] | None], tuple[AttentionTrace, ...]
    ]:
        """Read the context with the learned queries; arguments and results as those of `encode`."""
        context, text = promoted(self.dtype, context, text)
        queries = self._learned(context)
        return self.encode((queries, text), context, mask=mask, self_mask=self_mask)

    @nn.compact
    def _learned(self, context: Array) -> Array:
        required(context)
        context = tokens("context", context)
        start, shape = nn.initializers.normal(0.02), (self.queries, self.width)
        queries = learned(self, "queries", start, shape, self.param_dtype).astype(context.dtype)
        return queries[None].repeat(context.shape[0], axis=0)

    def encode(
        self,
        streams: tuple[Float[Array, "B R M"], Float[Array, "B T M"] | None],
        context: Float[Array, "B S N"],
        *,
        mask: Mask | None = None,
        self_mask: Mask | None = None,
    ) -> tuple[
        tuple[Float[Array, "B R M"], Float[Array, "B T M"] | None], tuple[AttentionTrace, ...]
    ]:
        """Read the context with queries of one's own.

        Args:
          streams: queries (B, R, M) and embedded words (B, T, M), or None: no words.
          context: (B, S, N).
          mask: what of it the queries may see.
          self_mask: what the R + T tokens may see of each other, see `joint_mask`; all when None.

        Returns:
          Queries and words, and the trace of every layer that reads the context.
        """
        required(context)
        context = tokens("context", context)
        context, (queries, text) = promoted(self.dtype, context, tuple(streams))
        text = None if text is None else tokens("words", text, self.width)
        streams = self.norm(queries), None if text is None else self.norm(text)
        traces: list[AttentionTrace] = []
        for layer in self.layer:
            streams, trace = layer(streams, context, mask=mask, self_mask=self_mask)
            traces += [] if trace is None else [trace]
        return streams, tuple(traces)

    def project(
        self, context: Float[Array, "B S N"], *, mask: Mask | None = None
    ) -> tuple[ProjectedContext, ...]:
        """What words under the "causal" mask read of the queries in each layer."""
        (context,) = promoted(self.dtype, context)
        queries, kept = self.norm(self._learned(context)), []
        for layer in self.layer:
            kept.append(layer.project(queries))
            (queries, _), _ = layer((queries, None), context, mask=mask)
        return tuple(kept)

    start = renamed.method("start", "init_cache")
    step = renamed.method("step", "decode_step")

    def init_cache(self, rows: int, length: int, *, dtype: Any = None) -> tuple[KVCache, ...]:
        """Empty caches of `rows` texts of up to `length` words, one a layer, as in `Stack`."""
        attention = CrossAttention(
            self.width, self.heads, **fields_of(self.config.self_attention), parent=None
        )
        dtype = self.dtype if dtype is None else dtype
        return tuple(empty_cache(attention, rows, length, dtype) for _ in range(self.layers))

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        queries: tuple[ProjectedContext, ...],
        cache: tuple[KVCache, ...],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "B T M"], tuple[KVCache, ...]]:
        """The next words of texts that the queries do not see (the "causal" mask).

        Args:
          x: embedded words that follow (B, T, M).
          queries: by `project`.
          cache: by `init_cache`, or what the step before returned.
          position: number of the first of these words.

        Returns:
          The words, and the cache with them.

        Raises:
          ValueError: the cache has no room for them, where `position` is known; where it is known
            only when the program runs, the output is NaN from there on.
        """
        x, queries = promoted(self.dtype, x, tuple(queries))
        x, kept = self.norm(x), []
        for layer, own, before in zip(self.layer, queries, cache, strict=True):
            x, after = layer.decode_step(x, own, before, position)
            kept.append(after)
        return x, tuple(kept)
