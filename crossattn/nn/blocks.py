"""Transformer blocks and the scanned stack of them."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import jax
from flax import linen as nn

from crossattn.nn.attention import CrossAttention, Projected, SelfAttention
from crossattn.nn.choices import known
from crossattn.nn.contexts import check_shared
from crossattn.nn.dtypes import promoted
from crossattn.nn.linear import Dense
from crossattn.nn.module import Module
from crossattn.nn.norms import LayerNorm
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float
from crossattn.sharding import ContextParallel

Remat = Literal["everything", "all but products"] | None

POLICIES = {
    "everything": jax.checkpoint_policies.nothing_saveable,
    "all but products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": partial(nn.gelu, approximate=False),
    "gelu-tanh": nn.gelu,
    "relu": nn.relu,
    "silu": nn.silu,
}


class FeedForward(Module):
    """Two dense layers with an activation between them.

    Attributes:
      expansion: hidden width in units of M.
      activation: "gelu-tanh" is the approximation of "gelu".
      gated: the activation of one map times another map (Shazeer 2020, "GLU variants").
      use_bias: of all maps.
      dtype: in which it is computed; that of its input when None.
      param_dtype: of parameters that are made.
    """

    expansion: float | int = 4
    activation: Literal["gelu", "gelu-tanh", "relu", "silu"] = "gelu-tanh"
    gated: bool = False
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = float

    @nn.compact
    def __call__(self, x: Float[Array, "B T M"]) -> Float[Array, "B T M"]:
        """Map each token by itself."""
        hidden = round(self.expansion * x.shape[-1])
        dense = partial(
            Dense, use_bias=self.use_bias, dtype=self.dtype, param_dtype=self.param_dtype
        )
        wide = ACTIVATIONS[self.activation](dense(hidden, name="up")(x))
        if self.gated:
            wide = wide * dense(hidden, name="times")(x)
        return dense(x.shape[-1], name="down")(wide)


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
        context: Float[Array, "I S N"] | Projected,
        *,
        self_mask: Mask | None = None,
        mask: Mask | None = None,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace]:
        """Returns the new stream and the trace of the cross-attention.

        `mask` and the trace are those of I contexts with B T / I queries each.
        """
        x, context = promoted(None, x, context)
        contexts = (context.keys if isinstance(context, Projected) else context).shape[0]
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
        feed_forward = FeedForward(self.expansion, name="feed_forward")
        return x + feed_forward(LayerNorm(name="feed_forward_norm")(x)), trace


def policy_of(remat: str | None) -> Callable[..., bool] | None:
    """What may be kept for the backward pass; None where nothing is computed again.

    >>> policy_of("all")
    Traceback (most recent call last):
    ValueError: unknown remat 'all': one of 'everything', 'all but products', None
    """
    known("remat", remat, (*POLICIES, None))
    return None if remat is None else POLICIES[remat]


def scan_layers(
    step: Callable[..., tuple[Any, Any]],
    block: nn.Module,
    carry: Any,
    shared: tuple[Any, ...],
    own: tuple[Any, ...] = (),
    *,
    layers: int,
    remat: Remat = None,
) -> tuple[Any, Any]:
    """Run `step(block, carry, *shared, *own)` for each layer: one compilation for any depth.

    Two layers make one turn of the loop, which saves a fifth of a shallow stack's training step on
    a CPU: less is copied in and out of the loop.

    Args:
      step: returns the new carry and what is kept of the layer.
      block: the module of a layer; its parameters get a leading axis L.
      carry: the stream, or the streams.
      shared: pytrees that every layer reads.
      own: pytrees whose leading axis L has one entry for each layer.
      layers: L.
      remat: what the backward pass computes again instead of keeping it; None: nothing.

    Returns:
      The last carry, and what was kept with a leading axis L.
    """
    if remat is not None:
        step = nn.remat(step, policy=policy_of(remat), prevent_cse=False)
    scanned = nn.scan(
        step,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(nn.broadcast,) * len(shared) + (0,) * len(own),
        length=layers,
        unroll=2,
    )
    return scanned(block, carry, *shared, *own)


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


def count_parameters(params: Any) -> int:
    """Number of scalars in a tree of arrays or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
