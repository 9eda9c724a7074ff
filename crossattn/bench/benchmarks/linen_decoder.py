"""The decoder of benchmark `generate` out of Flax Linen's own attention modules, as a peer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen

from ..cases import Case, DecoderShape
from .module import by_heads

EPSILON = 1e-5


class LinenBlock(linen.Module):
    """Self-attention over the words before, cross-attention and an MLP, each behind a norm."""

    heads: int
    dtype: Any

    @linen.compact
    def __call__(self, x, context):
        """One word of each text (B, 1, M), which reads the context (B, S, M)."""
        attention: Any = {"num_heads": self.heads, "dtype": self.dtype}
        norm = lambda name: linen.LayerNorm(epsilon=EPSILON, name=name)
        y = norm("self_norm")(x)
        x = x + linen.MultiHeadDotProductAttention(**attention, decode=True, name="self")(y)
        y = norm("cross_norm")(x)
        x = x + linen.MultiHeadDotProductAttention(**attention, name="cross")(y, context)
        y = linen.Dense(4 * x.shape[-1], name="up")(norm("mlp_norm")(x))
        return x + linen.Dense(x.shape[-1], name="down")(linen.gelu(y, approximate=False))


class LinenDecoder(linen.Module):
    """Blocks between an embedding and the same as output, for texts of up to `length` words."""

    shape: DecoderShape
    length: int
    dtype: Any

    @linen.compact
    def __call__(self, tokens, place, context):
        """Logits (B, 1, V) of the words after tokens (B, 1), which stand at place (1,)."""
        width = context.shape[-1]
        words = linen.Embed(self.shape.vocab_size, width, name="words")
        x = words(tokens) + linen.Embed(self.length, width, name="places")(place)[None]
        for layer in range(self.shape.layers):
            x = LinenBlock(self.shape.H, self.dtype, name=f"block{layer}")(x, context)
        return words.attend(linen.LayerNorm(epsilon=EPSILON, name="norm")(x))


def linen_writer(case: Case, shape: DecoderShape) -> Callable[[Any, Any], Any]:
    """A function of parameters and context (B, S, M) that writes (B, steps) words in one scan."""
    model = LinenDecoder(shape, case.steps + 1, case.dtype)

    def write(params, context):
        # `decode=True` makes its cache as long as the text that it is created with.
        text = jnp.zeros((shape.B, case.steps), jnp.int32)
        places = jnp.arange(case.steps)
        shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), text, places, context))
        cache = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes["cache"])

        def step(carry, place):
            cache, tokens = carry
            given = {"params": params, "cache": cache}
            logits, new = model.apply(
                given, tokens[:, None], place[None], context, mutable=["cache"]
            )
            tokens = jnp.argmax(logits[:, 0], axis=-1).astype(jnp.int32)
            return (new["cache"], tokens), tokens

        start = (cache, jnp.ones(shape.B, jnp.int32))
        return jax.lax.scan(step, start, places)[1].T

    return write


def linen_parameters(case: Case, shape: DecoderShape, params: Any) -> Any:
    """Parameters of a stack under the names of `LinenDecoder`, with heads as an axis."""
    own = params["params"]

    def block(layer):
        one = jax.tree.map(lambda leaf: leaf[layer], own["stack"]["blocks"])
        return {
            "self": by_heads(case, _biased(one["self_attention"])),
            "cross": by_heads(case, _biased(one["cross_attention"])),
            **{
                f"{name}_norm": one[f"{name}_residual"]["norm"] for name in ("self", "cross", "mlp")
            },
            **one["mlp"],
        }

    blocks = {f"block{layer}": block(layer) for layer in range(shape.layers)}
    return {**{name: own[name] for name in ("words", "places", "norm")}, **blocks}


def _biased(weights: Any) -> Any:
    """With a bias of 0 where there is none: Flax's modules have one everywhere or nowhere."""
    return {
        name: {**parts, "bias": parts.get("bias", jnp.zeros_like(parts["kernel"][0]))}
        for name, parts in weights.items()
    }
