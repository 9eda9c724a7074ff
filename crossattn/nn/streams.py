"""Text and context in one stream, or in two streams that read each other."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.attention import CrossAttention, SelfAttention
from crossattn.nn.co_attention import CoAttention
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.bidirectional import BidirectionalAttention
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.norm import LayerNorm
from crossattn.nn.module import Module
from crossattn.nn.scan import scan_layers
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float
from crossattn.sharding import ContextParallel

__all__ = [
    "BidirectionalAttention",
    "CoAttention",
    "PrefixBlock",
    "PrefixStack",
    "TwoStreamBlock",
    "TwoStreamStack",
    "prefix_pattern",
]

Streams = tuple[Float[Array, "B T M"], Float[Array, "B S M"]]


class TwoStreamBlock(Module):
    """x += SA(LN x); then x and context read the old other; then each += F(LN).

    Attributes:
      width: M of both streams.
      heads: H.
      expansion: hidden width of both feed-forward layers, in units of M.
      exchange: how the streams read each other: `CoAttention` or `BidirectionalAttention`.
      final: nobody reads the context behind this block, so that it comes out as it came in.
    """

    width: int
    heads: int
    expansion: int = 4
    exchange: Callable[..., Any] = CoAttention
    final: bool = False

    @nn.compact
    def __call__(
        self, streams: Streams, *, self_mask: Mask, mask: Mask, context_to_x: Mask
    ) -> tuple[Streams, AttentionTrace]:
        """Returns both streams and the trace of x reading the context."""
        x, context = promoted(None, *streams)
        y, _ = SelfAttention(self.width, self.heads, name="self_attention")(
            LayerNorm(name="self_norm")(x), mask=self_mask
        )
        x = x + y
        read, answer, trace = self.exchange(self.width, self.heads, name="exchange")(
            LayerNorm(name="cross_norm")(x),
            LayerNorm(name="context_norm")(context),
            mask=mask,
            context_to_x=None if self.final else context_to_x,
        )
        x = self._fed(x + read, "")
        return (x, context if self.final else self._fed(context + answer, "context_")), trace

    def _fed(self, x: Array, prefix: str) -> Array:
        normed = LayerNorm(name=f"{prefix}feed_forward_norm")(x)
        return x + MLP(self.expansion, name=f"{prefix}feed_forward")(normed)


class TwoStreamStack(Module):
    """`layers` two-stream blocks under one `scan`, of which the last updates the text only.

    Attributes: as `TwoStreamBlock`, and the number of layers.
    """

    layers: int
    width: int
    heads: int
    expansion: int = 4
    exchange: Callable[..., Any] = CoAttention

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "B S M"],
        *,
        prompt: Bool[Array, "B T"],
        seen: Bool[Array, "L B S"],
        mask: Mask,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the stack; the text is causal.

        Args:
          x: text (B, T, M).
          context: (B, S, M).
          prompt: words that the context may read. A word to predict must not be among them: it
            would come back through the context to the position that predicts it.
          seen: context tokens that the text may read in each layer.
          mask: what it may see besides.
          observe: as in `DecoderStack`.

        Returns:
          The text (B, T, M), and what was observed with a leading axis L.
        """

        def step(block, streams, prompt, mask, seen):
            mask = mask & Mask.keys(seen)
            back = Mask.keys(prompt)
            streams, trace = block(streams, self_mask=Mask.causal(0), mask=mask, context_to_x=back)
            return streams, observe(trace)

        x, context = promoted(None, x, context)
        block = partial(TwoStreamBlock, self.width, self.heads, self.expansion, self.exchange)
        return _scan_but_last(step, block, (x, context), (prompt, mask), seen)


class PrefixBlock(Module):
    """x += SA(LN x); x += F(LN x), of all tokens in one stream (GIT: Wang et al. 2022).

    The context tokens stand first and read one another; the words read both. All have the same
    weights.

    Attributes:
      width: M.
      heads: H.
      expansion: hidden width of the feed-forward layer, in units of M.
      layout: of the tokens over devices, as in `CrossAttention`.
      final: nobody reads the context behind this block, so that it comes out as it came in.
    """

    width: int
    heads: int
    expansion: int = 4
    layout: ContextParallel | None = None
    final: bool = False

    @nn.compact
    def __call__(
        self, streams: Streams, *, mask: Mask, seen: Mask
    ) -> tuple[Streams, AttentionTrace]:
        """Attend within context and words.

        Args:
          streams: words (B, T, M) and context (B, S, M).
          mask: which of the S + T tokens each word may see.
          seen: which context tokens may be seen at all.

        Returns:
          Both streams, and the trace of the words, with S + T keys.
        """
        x, context = promoted(None, *streams)
        attention = CrossAttention(
            self.width, self.heads, layout=self.layout, name="self_attention"
        )
        norm = LayerNorm(name="self_norm")
        words, tokens = norm(x), norm(context)
        own = attention.project(tokens)
        every = jax.tree.map(lambda *pair: jnp.concatenate(pair, 2), own, attention.project(words))
        read, trace = attention(words, every, mask=mask)
        feed_forward = MLP(self.expansion, name="feed_forward")
        feed_norm = LayerNorm(name="feed_forward_norm")
        fed = lambda stream: stream + feed_forward(feed_norm(stream))
        if not self.final:
            answer, _ = attention(tokens, own, mask=seen)
            context = fed(context + answer)
        return (fed(x + read), context), trace


class PrefixStack(Module):
    """`layers` prefix blocks under one `scan`, of which the last updates the texts only.

    The texts about one context stand behind it side by side and do not see one another: the context
    is computed once for all of them.

    Attributes: as `PrefixBlock`, and the number of layers.
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
        context: Float[Array, "I S M"],
        *,
        seen: Bool[Array, "L I S"],
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the stack.

        Args:
          x: texts (B, T, M), B a multiple of I.
          context: (I, S, M); its tokens see one another, and no text.
          seen: context tokens that may be read in each layer.
          observe: as in `DecoderStack`; the trace has B T / I queries and S + B T / I keys.

        Returns:
          The texts (B, T, M), and what was observed with a leading axis L.
        """
        x, context = promoted(None, x, context)
        (B, T, M), (I, S, _) = x.shape, context.shape  # noqa: E741 - I counts contexts
        pattern = prefix_pattern(S, T, texts=B // I)

        def step(block, streams, pattern, seen):
            words = jnp.ones((I, pattern.shape[0]), bool)
            mask = Mask.dense(pattern[None, None]) & Mask.keys(jnp.concatenate([seen, words], 1))
            streams, trace = block(streams, mask=mask, seen=Mask.keys(seen))
            return streams, observe(trace)

        block = partial(PrefixBlock, self.width, self.heads, self.expansion, self.layout)
        texts = x.reshape(I, -1, M)
        texts, kept = _scan_but_last(step, block, (texts, context), (pattern,), seen)
        return texts.reshape(B, T, M), kept


def prefix_pattern(S: int, T: int, *, texts: int) -> Bool[Array, "N K"]:
    """What the words of `texts` texts of T words see of S context tokens and of themselves.

    Example:
      >>> prefix_pattern(1, 2, texts=2).astype(int).tolist()
      [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    """
    place = jnp.arange(texts * T)
    own = place[:, None] // T == place[None, :] // T
    past = place[:, None] >= place[None, :]
    return jnp.concatenate([jnp.ones((texts * T, S), bool), own & past], axis=1)


def _scan_but_last(step, block, streams, shared, seen):
    """`scan_layers` of blocks, and one final block behind them: nobody reads its context.

    It saves up to half of a shallow stack's work on the context. Returns the text and what was
    kept with a leading axis L, the length of `seen`.
    """
    kept = []
    if layers := seen.shape[0] - 1:
        streams, several = scan_layers(
            step, block(name="blocks"), streams, shared, (seen[:-1],), layers=layers
        )
        kept.append(several)
    (x, _), last = step(block(final=True, name="final"), streams, *shared, seen[-1])
    kept.append(jax.tree.map(lambda leaf: leaf[None], last))
    return x, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept)
