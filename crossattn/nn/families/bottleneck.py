"""Two streams that exchange through a few shared tokens only."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn import renamed
from crossattn.nn.context import zero_masked
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.stream import Stream, TwoStreamConfig
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import Remat, scan_layers
from crossattn.nn.sublayers import both, combine_masks
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["Bottleneck", "BottleneckLayer"]

Streams = tuple[Float[Array, "B T M"], Float[Array, "B S M"]]
Traces = tuple[AttentionTrace, AttentionTrace]


class BottleneckLayer(PolicyModule):
    """[x ; z] and [context ; z] each run through a layer of their own; the two new z are averaged.

    Attributes:
      width: M.
      heads: H.
      config: of the layers, "self" and "mlp".
    """

    width: int
    heads: int
    config: TwoStreamConfig = TwoStreamConfig(order=("self", "mlp"))

    def setup(self):  # noqa: D102 - Linen calls it
        self.x = Stream(self.width, self.heads, self.config, **self.policy)
        self.context = Stream(self.width, self.heads, self.config, **self.policy)

    def __call__(
        self,
        streams: Streams,
        shared: Float[Array, "B R M"],
        *,
        x_mask: Mask | None = None,
        context_mask: Mask | None = None,
        self_mask: Mask | None = None,
        shared_mask: Mask | None = None,
        context_after: bool = True,
    ) -> tuple[Streams, Float[Array, "B R M"], tuple[AttentionTrace, AttentionTrace | None]]:
        """Run the layer; queries and keys of its traces end with the R shared tokens.

        Args:
          streams: x (B, T, M) and the context (B, S, M).
          shared: tokens that both read and write.
          x_mask: which tokens of x are there: a mask of keys.
          context_mask: which tokens of the context are there.
          self_mask: what tokens of x may see of x besides, `Mask.causal(0)` of a text.
          shared_mask: tokens of x that the shared ones may read, a mask of keys: of a causal text
            none that is to be predicted, or the others would read it in the next layer.
          context_after: whether the shared tokens are read behind this layer; if not, neither they
            nor the context are computed: they come out as they came in.

        Returns:
          The streams, the shared tokens, and the traces of both layers.
        """
        masks = x_mask, self_mask, shared_mask
        x, one, trace = self._one(self.x, streams[0], shared, masks)
        if not context_after:
            return (x, streams[1]), shared, (trace, None)
        masks = context_mask, None, None
        context, other, trace_back = self._one(self.context, streams[1], shared, masks)
        return (x, context), (one + other) / 2, (trace, trace_back)

    def _one(self, side, stream, shared, masks: tuple[Mask | None, Mask | None, Mask | None]):
        (B, T, _), R = stream.shape, shared.shape[1]
        y = jnp.concatenate([stream, shared], axis=1)
        y, trace = side.reads_itself(y, _with_shared(*masks, B, T, R))
        stream, shared = jnp.split(side.feeds(y), [T], axis=1)
        return stream, shared, trace


@renamed.arguments(design="config")
class Bottleneck(PolicyModule):
    """MBT (Nagrani et al. 2021): what one modality tells the other passes through R tokens.

    Attributes:
      layers: L.
      width: M.
      heads: H.
      tokens: R.
      config: of every layer.
      remat: as in `Stack`.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> module = presets.build("bottleneck", width=8, heads=2, layers=3)
      >>> sounds, frames = jnp.ones((2, 5, 8)), jnp.ones((2, 7, 8))
      >>> ((x, context), _), params = jax.eval_shape(
      ...     lambda: module.init_with_output(jax.random.key(0), (sounds, frames)))
      >>> x.shape, context.shape, params["params"]["tokens"].shape
      ((2, 5, 8), (2, 7, 8), (4, 8))
    """

    layers: int
    width: int
    heads: int
    tokens: int = 4
    config: TwoStreamConfig = TwoStreamConfig(order=("self", "mlp"))
    remat: Remat = None

    @nn.compact
    def __call__(
        self,
        streams: Streams,
        *,
        x_mask: Mask | None = None,
        context_mask: Mask | None = None,
        observe: Callable[[Traces], Any] = lambda traces: None,
    ) -> tuple[Streams, Any]:
        """Run the layers under one scan.

        Args:
          streams: x (B, T, M) and context (B, S, M).
          x_mask: which tokens of x are there: a mask of keys.
          context_mask: which tokens of the context are there.
          observe: applied to the two traces of each layer; what it returns is kept.

        Returns:
          Both streams, and what was observed with a leading axis L.

        Raises:
          TypeError: there is no context.
          ValueError: a stream has another width.
        """
        advice = "shared tokens have one width, no context_width=: map the context to it first"
        streams = both(streams, (self.width, self.width), otherwise=advice)
        start = nn.initializers.normal(0.02)
        x, context = promoted(self.dtype, *streams)
        x, context = (
            zero_masked(x, x_mask, x.shape[1]),
            zero_masked(context, context_mask, context.shape[1]),
        )
        shape = (self.tokens, self.width)
        shared = learned(self, "tokens", start, shape, self.param_dtype).astype(x.dtype)
        shared = shared[None].repeat(x.shape[0], axis=0)

        def step(layer, carry, x_mask, context_mask):
            *carry, traces = layer(*carry, x_mask=x_mask, context_mask=context_mask)
            return tuple(carry), observe(traces)

        layer = BottleneckLayer(self.width, self.heads, self.config, **self.policy, name="layer")
        masks = x_mask, context_mask
        (streams, _), kept = scan_layers(
            step, layer, ((x, context), shared), masks, layers=self.layers, remat=self.remat
        )
        return streams, kept


def _with_shared(
    keys: Mask | None, own: Mask | None, told: Mask | None, B: int, T: int, R: int
) -> Mask:
    """What T tokens see of themselves, by `keys` and `own`, R shared ones by `keys` and `told`.

    All see the shared tokens.
    """
    given = [mask for mask in (keys, own, told) if mask is not None and mask.terms]
    if not given or T == 0:
        return Mask()
    for mask in (keys, told):
        if mask is not None and mask.visible(B, T, T).shape[2] != 1:
            raise ValueError(
                "a stream with shared tokens takes masks of keys: Mask.keys or lengths"
            )
    one, other = combine_masks(keys, own), combine_masks(keys, told)
    B = max(mask.visible(B, T, T).shape[0] for mask in given)
    seen = jnp.broadcast_to(one.visible(B, T, T), (B, 1, T, T))
    read = jnp.broadcast_to(other.visible(B, T, T), (B, 1, T, T))[:, :, :1]
    rows = jnp.concatenate([seen, jnp.broadcast_to(read, (B, 1, R, T))], axis=2)
    return Mask.dense(jnp.pad(rows, ((0, 0), (0, 0), (0, 0), (0, R)), constant_values=True))
