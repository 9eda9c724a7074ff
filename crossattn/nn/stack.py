"""A scanned stack of equal blocks: compile time does not grow with depth."""

from collections.abc import Callable
from typing import Any

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.block import Block
from crossattn.nn.cache import KVCache, check_caches, empty_cache
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.context import ContextOrPair, MaskOrPair, ProjectedOrPair
from crossattn.nn.dtypes import promoted
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import Remat, decode_layers, scan_layers
from crossattn.nn.sublayers import combine_masks
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["Stack"]


@renamed.arguments(design="config")
class Stack(PolicyModule):
    """`layers` blocks of one configuration under one `scan`; parameters carry a leading axis L.

    Attributes:
      layers: L.
      width: M.
      heads: H.
      config: of each block.
      remat: what the backward pass computes again instead of keeping it; None: nothing.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> stack = Stack(layers=3, width=8, heads=2, config=presets.config("whisper"))
      >>> words, sound = jnp.ones((2, 5, 8)), jnp.ones((2, 7, 8))
      >>> def run():
      ...     params = stack.init(jax.random.key(0), words, sound, self_mask=Mask.causal(0))
      ...     y, kept = stack.apply(params, words, sound, self_mask=Mask.causal(0),
      ...                           observe=lambda trace: trace.entropy())
      ...     projected = stack.apply(params, sound, method="project")
      ...     cache = stack.apply(params, 2, 5, method="init_cache")
      ...     first, cache, _ = stack.apply(params, words[:, :1], projected, cache, jnp.int32(0),
      ...                                  method="decode_step")
      ...     return y, kept, first
      >>> y, kept, first = jax.eval_shape(run)  # the first word is that of y
      >>> y.shape, kept.shape, first.shape
      ((2, 5, 8), (3, 2, 2, 5), (2, 1, 8))
    """

    layers: int
    width: int
    heads: int
    config: BlockConfig = BlockConfig()
    remat: Remat = None

    def setup(self):  # noqa: D102 - Linen calls it
        self.blocks = Block(self.width, self.heads, self.config, **self.policy)

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: ContextOrPair | None,
        *,
        contexts: Float[Array, "L I S N"] | tuple[Any, Any] | None = None,
        mask: MaskOrPair = None,
        visible: Bool[Array, "L I S"] | None = None,
        self_mask: Mask | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        key_positions: Float[Array, "_ S _"] | None = None,
        self_bias: Float[Array, "_ _ _ _"] | None = None,
        others: Any = None,
        observe: Callable[..., Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the blocks; arguments as those of `Block`, and besides:

        Args:
          context: None where no block reads one, or each reads its own; a `ProjectedContext` has a
            leading axis L, as `project` makes it.
          contexts: one for each layer, in place of `context`.
          visible: tokens of the context that each layer may see besides: interventions in single
            layers are data.
          others: a pytree with a leading axis L, of which `observe` gets each layer's entry as a
            second argument: traces of what made the contexts.
          observe: applied to every layer's trace inside of the loop: only what it returns is kept.

        Returns:
          The stream, and what `observe` returned of each layer's trace, with a leading axis L.
        """

        def step(block, x, shared, own):
            (context, mask, where), (mine, keys, other) = shared, own
            mask = mask if keys is None else combine_masks(mask, Mask.keys(keys))
            x, trace = block(x, context if mine is None else mine, mask=mask, **where)
            return x, observe(trace) if other is None else observe(trace, other)

        where = {
            "self_mask": self_mask,
            "query_positions": query_positions,
            "key_positions": key_positions,
            "self_bias": self_bias,
        }
        x, context, contexts = promoted(self.dtype, x, context, contexts)
        if isinstance(context, ProjectedContext):
            context, contexts = None, context
        shared, own = (context, mask, where), (contexts, visible, others)
        depth: dict[str, Any] = {"layers": self.layers, "remat": self.remat}
        return scan_layers(step, self.blocks, x, (shared,), (own,), **depth)

    def project(
        self,
        context: ContextOrPair,
        *,
        mask: MaskOrPair = None,
        key_positions: Float[Array, "_ S _"] | None = None,
    ) -> Any:
        """Keys and values of the context for every layer, with a leading axis L.

        What `mask` hides stays hidden in every step: it need not be given again.
        """

        def step(block, carry, context, mask, positions):
            return carry, block.project(context, mask=mask, key_positions=positions)

        shared = (*promoted(self.dtype, context), mask, key_positions)
        return scan_layers(step, self.blocks, (), shared, layers=self.layers)[1]

    start = renamed.method("start", "init_cache")
    step = renamed.method("step", "decode_step")

    def init_cache(self, rows: int, length: int, *, dtype: Any = None) -> tuple[KVCache, ...]:
        """Empty caches of `rows` streams of up to `length` tokens, one for each layer.

        They are in `dtype`: half precision takes half the memory, whatever dtype is computed in;
        None: that of the module.
        """
        config, merged = self.config, "merged" in self.config.order
        own = fields_of(config.cross_attention if merged else config.self_attention)
        attention = CrossAttention(self.width, self.heads, **own, parent=None)
        dtype = self.dtype if dtype is None else dtype
        return tuple(empty_cache(attention, rows, length, dtype) for _ in range(self.layers))

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedOrPair | None,
        cache: tuple[KVCache, ...],
        position: Int[Array, ""],
        *,
        mask: MaskOrPair = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        self_bias: Float[Array, "_ _ _ _"] | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], tuple[KVCache, ...], Any]:
        """The next tokens of causal streams: the same as `__call__` on all of them at once.

        Args:
          x: the tokens that follow (B, T, M).
          context: of every layer, by `project`; None for a design that reads none.
          cache: by `init_cache`, or what the step before returned.
          position: number of the first of these tokens.
          mask: what of the context they may see.
          query_positions: of these tokens.
          self_bias: added to their logits among all places of the cache.
          observe: as above.

        Returns:
          The stream, the cache with the new tokens, and what was observed.

        Raises:
          ValueError: the cache has no room for them, where `position` is known; where it is known
            only when the program runs, the output is NaN from there on.
        """

        def step(block, x, where, context, cache):
            x, cache, trace = block.decode_step(x, context, cache, **where)
            return x, cache, observe(trace)

        where = {
            "position": position,
            "mask": mask,
            "query_positions": query_positions,
            "self_bias": self_bias,
        }
        check_caches(cache, self.layers)
        x, context = promoted(self.dtype, x, context)
        return decode_layers(step, self.blocks, x, (where,), context, cache)
