"""Flax's modules for multi-head attention, Linen's and NNX's, around `attend`."""

from collections.abc import Callable, Mapping
from typing import Any

from flax import linen, nnx

from crossattn.interop.flax.attention import LeadingAxes, calling, dot_product_attention
from crossattn.ops import AttentionTrace
from crossattn.ops.masks.hidden import zero_hidden
from crossattn.shapes import Array, Float

__all__ = ["MultiHeadAttention", "MultiHeadDotProductAttention"]


class MultiHeadDotProductAttention(linen.MultiHeadDotProductAttention):
    """`flax.linen.MultiHeadDotProductAttention`, whose masks cannot leak.

    Its fields are Flax's, and so are its parameters, cache and initial values: checkpoints load
    unchanged, and a module in which it stands has the same names. Outputs and gradients are Flax's
    where every query sees something. See `dot_product_attention` for what options mean here;
    `attention_fn` and quantised products (`qk_attn_weights_einsum_cls`,
    `attn_weights_value_einsum_cls`) are refused.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn import Mask
      >>> layer = MultiHeadDotProductAttention(num_heads=2)
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 4))
      >>> variables = layer.init(jax.random.key(0), words, patches)
      >>> mask = Mask.lengths(key=jnp.array([7, 2, 0]))
      >>> y, trace = layer.apply(variables, words, patches, mask=mask, return_trace=True)
      >>> y.shape, trace.weights().shape, bool(jnp.any(y[2]))
      ((3, 5, 8), (3, 2, 5, 7), False)
    """

    attention_fn: Callable[..., Array] = dot_product_attention

    def __post_init__(self):
        _check_attention(self.attention_fn, "flax.linen.MultiHeadDotProductAttention")
        super().__post_init__()

    def __call__(  # type: ignore[override]
        self,
        inputs_q: Float[Array, "... T _"],
        inputs_k: Float[Array, "... S _"] | None = None,
        inputs_v: Float[Array, "... S _"] | None = None,
        *,
        inputs_kv: Float[Array, "... S _"] | None = None,
        mask: Any = None,
        return_trace: bool = False,
        **options: Any,
    ) -> Float[Array, "... T M"] | tuple[Float[Array, "... T M"], AttentionTrace]:
        """As Flax's, with two additions.

        Args:
          inputs_q: queries (..., T, M).
          inputs_k: what keys are made of, (..., S, N); the queries when None.
          inputs_v: what values are made of; as `inputs_k` when None.
          inputs_kv: Flax's former name for both.
          mask: as `dot_product_attention` takes it: as Flax's, or a `Mask`.
          return_trace: whether to return (output, `AttentionTrace`), leading axes joined.
          options: deterministic, dropout_rng, sow_weights.
        """
        inputs = {"inputs_q": inputs_q, "inputs_k": inputs_k, "inputs_v": inputs_v}
        inputs["inputs_kv"] = inputs_kv
        return _called(
            super().__call__, inputs, mask, self.num_heads, return_trace, self.decode, options
        )


class MultiHeadAttention(nnx.MultiHeadAttention):
    """`flax.nnx.MultiHeadAttention`, whose masks cannot leak.

    Its arguments are Flax's, and so are its state and initial values: checkpoints load unchanged.
    Outputs and gradients are Flax's where every query sees something. See `dot_product_attention`
    for what options mean here; `attention_fn` is refused.

    Example:
      >>> import jax.numpy as jnp
      >>> from crossattn import Mask
      >>> layer = MultiHeadAttention(num_heads=2, in_features=8, decode=False, rngs=nnx.Rngs(0))
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 8))
      >>> mask = Mask.lengths(key=jnp.array([7, 2, 0]))
      >>> y, trace = layer(words, patches, mask=mask, return_trace=True)
      >>> y.shape, trace.weights().shape, bool(jnp.any(y[2]))
      ((3, 5, 8), (3, 2, 5, 7), False)
    """

    def __init__(self, num_heads: int, in_features: int, *arguments: Any, **options: Any):
        owner = "flax.nnx.MultiHeadAttention"
        _check_attention(options.setdefault("attention_fn", dot_product_attention), owner)
        super().__init__(num_heads, in_features, *arguments, **options)

    def __call__(  # type: ignore[override]
        self,
        inputs_q: Float[Array, "... T _"],
        inputs_k: Float[Array, "... S _"] | None = None,
        inputs_v: Float[Array, "... S _"] | None = None,
        *,
        mask: Any = None,
        return_trace: bool = False,
        **options: Any,
    ) -> Float[Array, "... T M"] | tuple[Float[Array, "... T M"], AttentionTrace]:
        """As Flax's, with two additions.

        Args:
          inputs_q: queries (..., T, M).
          inputs_k: what keys are made of, (..., S, N); the queries when None.
          inputs_v: what values are made of; as `inputs_k` when None.
          mask: as `dot_product_attention` takes it: as Flax's, or a `Mask`.
          return_trace: whether to return (output, `AttentionTrace`), leading axes joined.
          options: deterministic, rngs, sow_weights, decode, and what else Flax's has.
        """
        inputs = {"inputs_q": inputs_q, "inputs_k": inputs_k, "inputs_v": inputs_v}
        decode = options.get("decode")
        decode = bool(self.decode if decode is None else decode)
        return _called(
            super().__call__, inputs, mask, self.num_heads, return_trace, decode, options
        )


def _called(
    super_call: Callable[..., Any],
    inputs: Mapping[str, Any],
    mask: Any,
    heads: int,
    return_trace: bool,
    decode: bool,
    options: Mapping[str, Any],
) -> Any:
    """Flax's call, around the attention that hears of the mask and of the wish for a trace."""
    first = inputs["inputs_q"]
    batch, T = LeadingAxes(first.shape[:-2]), first.shape[-2]
    seen = None if mask is None else batch.mask(mask, heads, T)
    given = {name: x for name, x in inputs.items() if x is not None}
    if seen is not None and not decode:
        keys = {n: x for n, x in given.items() if n != "inputs_q"}
        keys = keys or {"inputs_k": first}
        zeroed = lambda x: batch.apart(zero_hidden(batch.joined(x), seen, T))
        given |= {name: zeroed(x) for name, x in keys.items()}
    with calling(seen) as call:
        out = super_call(**given, **options)
    return (out, call.trace) if return_trace else out


def _check_attention(given: Any, owner: str) -> None:
    if given is not dot_product_attention:
        raise ValueError(
            f"attention_fn of this class is crossattn's own: leave it away, or use {owner}"
        )
