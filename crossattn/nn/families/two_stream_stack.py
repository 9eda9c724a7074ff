"""A scanned stack of layers that carry a pair of streams."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, check_caches, empty_cache
from crossattn.nn.config import fields_of
from crossattn.nn.dtypes import promoted
from crossattn.nn.module import Module
from crossattn.nn.scan import Remat, decode_layers, scan_layers
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["StreamStack"]

Streams = tuple[Float[Array, "B T M"], Float[Array, "B S N"]]


class StreamStack(Module):
    """`layers` layers of two streams under one `scan`; parameters carry a leading axis L.

    Attributes:
      layer: a `TwoStreams` or a `Prefix`.
      layers: L.
      remat: what the backward pass computes again instead of keeping it; None: nothing.
      dtype: of the streams, e.g. bfloat16; that of the layer when None.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> stack = presets.build("prefix_lm", width=8, heads=2, layers=3)
      >>> words, patches = jnp.ones((2, 5, 8)), jnp.ones((2, 7, 8))
      >>> ((x, context), _), params = jax.eval_shape(
      ...     lambda: stack.init_with_output(jax.random.key(0), (words, patches)))
      >>> x.shape, context.shape
      ((2, 5, 8), (2, 7, 8))
    """

    layer: nn.Module
    layers: int
    remat: Remat = None
    dtype: Any = None

    @property
    def _dtype(self) -> Any:
        return self.layer.dtype if self.dtype is None else self.dtype

    def __call__(
        self,
        streams: Streams,
        *,
        towers: tuple[Float[Array, "L B T M"], Float[Array, "L B S N"]] | None = None,
        observe: Callable[[Any], Any] = lambda traces: None,
        **where: Any,
    ) -> tuple[Streams, Any]:
        """Run the layers.

        Args:
          streams: x (B, T, M) and the context (B, S, N).
          towers: states of the towers for each layer, (L, B, T, M) and (L, B, S, N), for a design
            with a "link".
          observe: applied to what each layer returns beside the streams: only that is kept.
          **where: masks and positions of the layer.

        Returns:
          Both streams, and what was observed with a leading axis L.
        """

        def step(layer, streams, where, towers):
            joined = {} if towers is None else {"towers": towers}
            streams, traces = layer(streams, **where, **joined)
            return streams, observe(traces)

        streams, towers = promoted(self._dtype, tuple(streams), towers)
        return scan_layers(
            step, self.layer, streams, (where,), (towers,), layers=self.layers, remat=self.remat
        )

    def project(
        self,
        context: Float[Array, "B S M"],
        *,
        context_mask: Mask | None = None,
        context_positions: Float[Array, "_ S _"] | None = None,
    ) -> ProjectedContext:
        """Keys and values of a prefix in every layer, with a leading axis L; of a `Prefix` only."""

        def step(layer, context, where):
            return layer.project(context, **where)

        where = {"context_mask": context_mask, "context_positions": context_positions}
        (context,) = promoted(self._dtype, context)
        return scan_layers(step, self.layer, context, (where,), layers=self.layers)[1]

    start = renamed.method("start", "init_cache")
    step = renamed.method("step", "decode_step")

    def init_cache(self, rows: int, length: int, *, dtype: Any = None) -> tuple[KVCache, ...]:
        """Empty caches of `rows` texts of up to `length` words, one a layer, as in `Stack`."""
        layer, dtype = self.layer, self._dtype if dtype is None else dtype
        attention = CrossAttention(
            layer.width, layer.heads, **fields_of(layer.config.self_attention), parent=None
        )
        return tuple(empty_cache(attention, rows, length, dtype) for _ in range(self.layers))

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext,
        cache: tuple[KVCache, ...],
        position: Int[Array, ""],
        *,
        context_mask: Mask | None = None,
        x_positions: Float[Array, "_ T _"] | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], tuple[KVCache, ...], Any]:
        """The next words behind a prefix; arguments and results as those of `Stack.decode_step`."""

        def step(layer, x, where, context, cache):
            x, cache, trace = layer.decode_step(x, context, cache, **where)
            return x, cache, observe(trace)

        where = {"position": position, "context_mask": context_mask, "x_positions": x_positions}
        check_caches(cache, self.layers)
        x, context = promoted(self._dtype, x, context)
        return decode_layers(step, self.layer, x, (where,), context, cache)
