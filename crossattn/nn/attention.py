"""Attention modules: the projections around `crossattn.attend`."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from crossattn import renamed
from crossattn.nn.config import ExtraKeys, Logits, Rotary
from crossattn.nn.context import ProjectedContext, combine_masks, tokens, zero_masked
from crossattn.nn.dtypes import common, promoted
from crossattn.nn.interventions import intervened, without_edges
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.positions import with_positions
from crossattn.nn.module import PolicyModule
from crossattn.nn.reading import attend_heads, join, talk
from crossattn.ops import AttentionTrace, Mask
from crossattn.ops.positions import rotate
from crossattn.shapes import Array, Float


@renamed.arguments(spare="extra_keys", placing="positions")
class CrossAttention(PolicyModule):
    """Queries from one modality read keys and values of another (Vaswani et al. 2017).

    The context is required, and is an array (B, S, N) of any width N or what `project` made of it.

    Attributes:
      width: M, width of the query stream and of the output.
      heads: H, number of query heads.
      key_value_heads: K, a divisor of H (grouped queries); H when None.
      head_size: D of queries and keys; M / H when None.
      value_size: V of values; D when None.
      use_bias: whether the four projections have a bias, or the letters of those that have one, of
        "qkvo".
      logits: how a query meets a key.
      extra_keys: keys beside the context.
      positions: how they take part: "rotary" turns queries and keys by coordinates, "add" adds
        vectors to what queries and keys are made of (but not values).
      rotary: the rotations of "rotary".
      head_gate: tanh of a learned number for each head, 0 at the start, scales what it has read.
      others: as those of `PolicyModule`; dropout is that of weights, not of the output.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn import Mask
      >>> from crossattn.nn import CrossAttention
      >>> block = CrossAttention(width=8, heads=2)
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 4))
      >>> seen = Mask.lengths(key=jnp.array([7, 2, 0]))
      >>> params = block.init(jax.random.key(0), words, patches)
      >>> y, trace = block.apply(params, words, patches, mask=seen)
      >>> y.shape, trace.entropy().shape
      ((3, 5, 8), (3, 2, 5))
      >>> projected = block.apply(params, patches, mask=seen, method="project")
      >>> again, _ = block.apply(params, words, projected)
      >>> bool(jnp.allclose(y, again))
      True
    """

    width: int
    heads: int
    key_value_heads: int | None = None
    head_size: int | None = None
    value_size: int | None = None
    use_bias: bool | str = True
    logits: Logits = Logits()
    extra_keys: ExtraKeys = ExtraKeys()
    positions: Literal["rotary", "add"] | None = None
    rotary: Rotary = Rotary()
    head_gate: bool = False

    def __post_init__(self):
        if isinstance(self.positions, Rotary):  # as the former argument, placing, had it
            object.__setattr__(self, "rotary", self.positions)
            object.__setattr__(self, "positions", "rotary")
        super().__post_init__()

    def setup(self):  # noqa: D102 - Linen calls it
        if self.head_size is None and self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not a multiple of heads {self.heads}: "
                "choose another number of heads, or give head_size"
            )
        if self.logits.talking and self.extra_keys != ExtraKeys():
            raise ValueError("talking heads mix weights, which keys beside the context have not")
        H, K, D = self.heads, self.shared, self.size
        biased = "qkvo" if self.use_bias is True else self.use_bias or ""
        made_in = self.param_dtype
        dense = partial(Dense, **self.dense_policy)
        self.query = dense(features=H * D, use_bias="q" in biased)
        self.key = dense(features=K * D, use_bias="k" in biased)
        self.value = dense(features=K * self.read, use_bias="v" in biased)
        self.out = dense(features=self.width, use_bias="o" in biased)
        if self.logits.norm is not None:
            self.query_norm = Norm(self.logits.norm, self.logits.epsilon, made_in)
            self.key_norm = Norm(self.logits.norm, self.logits.epsilon, made_in)
        made = lambda name, start, shape: self.param(name, start, shape, made_in)
        start = nn.initializers.normal(0.02)
        if self.extra_keys.bias_kv:
            self.bias_k = made("bias_k", start, (K, D))
            self.bias_v = made("bias_v", start, (K, self.read))
        if R := self.extra_keys.registers:
            self.register_keys = made("register_keys", start, (R, K, D))
            self.register_values = made("register_values", start, (R, K, self.read))
        if self.extra_keys.sink:
            self.sink = made("sink", nn.initializers.zeros, (H,))
        if self.head_gate:
            self.gate = made("gate", nn.initializers.zeros, (H,))
        if self.logits.talking:
            alone = lambda key, shape, dtype: jnp.eye(shape[0], dtype=dtype)  # at the start
            self.logits_mix = made("logits_mix", alone, (H, H))
            self.weights_mix = made("weights_mix", alone, (H, H))

    @property
    def size(self) -> int:
        """D."""
        return self.head_size or self.width // self.heads

    @property
    def read(self) -> int:
        """V."""
        return self.value_size or self.size

    @property
    def shared(self) -> int:
        """K."""
        return self.key_value_heads or self.heads

    def project(
        self,
        context: Float[Array, "B S N"],
        *,
        mask: Mask | None = None,
        positions: Float[Array, "_ S _"] | None = None,
    ) -> ProjectedContext:
        """Keys and values of a context (B, S, N), to be passed as `context` any number of times.

        Tokens that `mask` hides from every query are taken for zeros.
        """
        (context,) = promoted(self.dtype, zero_masked(context, mask, None))
        keys = self.key(with_positions(context, positions, self.positions))
        keys = keys.reshape(*context.shape[:2], self.shared, self.size)
        if self.logits.norm is not None:
            keys = self.key_norm(keys)
        keys = self._turned(keys, positions)
        values = self.value(context).reshape(*context.shape[:2], self.shared, self.read)
        return ProjectedContext(keys.transpose(0, 2, 1, 3), values.transpose(0, 2, 1, 3), mask)

    @renamed.arguments(beside="extra_contexts")
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "B S N"] | ProjectedContext,
        *,
        mask: Mask | None = None,
        bias: Float[Array, "_ _ _ _"] | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        key_positions: Float[Array, "_ S _"] | None = None,
        extra_contexts: Sequence[ProjectedContext] = (),
        intervene: bool = True,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace]:
        """Read the context with the queries of `x`.

        Args:
          x: query stream (B, T, M).
          context: (B, S, N), or `ProjectedContext`, whose mask is joined to `mask`.
          mask: what each query may see; a query that sees nothing gets the output bias only.
          bias: added to the logits, each of (B, H, T, S) full or 1.
          query_positions: of the queries, (B|1, T, A) coordinates or (B|1, T, M) vectors; required
            where queries are turned.
          key_positions: of the context; one that is projected has them already.
          extra_contexts: further keys under the same softmax, by `project`; the trace is that
            of the context alone, whose weights then sum to less than 1.
          intervene: whether `crossattn.nn.interventions` reach this call.

        Returns:
          The output (B, T, M) and the trace of the attention.

        Raises:
          TypeError: when the context is None: cross-attention never falls back to self-attention.
          ValueError: positions for a design that does nothing with them, or none for one that does.
        """
        if context is None:
            raise TypeError(
                "context is required: pass an array (B, S, N) or block.project(context); "
                "for self-attention pass x twice"
            )
        x = tokens("x", x)
        x, context, extra_contexts = promoted(self.dtype, x, context, tuple(extra_contexts))
        how: Any = {"implementation": self.implementation}
        how["heads_first"] = isinstance(context, ProjectedContext)
        if not isinstance(context, ProjectedContext):
            context = self.project(zero_masked(context, mask, x.shape[1]), positions=key_positions)
        if self.positions == "rotary" and query_positions is None:
            raise ValueError("queries are turned by their coordinates: give query_positions")
        queries = self.query(with_positions(x, query_positions, self.positions))
        queries = queries.reshape(*x.shape[:2], self.heads, self.size)
        if self.logits.norm is not None:
            queries = self.query_norm(queries)
        queries = self._turned(queries, query_positions)
        seen = combine_masks(mask, context.mask)
        seen = without_edges(self, seen) if intervene else seen
        there = ProjectedContext(context.keys, context.values, seen)
        own, alone = self._read(queries, there, bias=bias, **how)
        others = [self._read(queries, other, **how) for other in extra_contexts]
        others = [(o, t.lse) for o, t in others] + self._extra(queries)
        joined = lambda own: join(own, alone, others, self._sinks(alone.lse.dtype))
        out, trace = joined(own)
        if intervene:
            mix = self.weights_mix if self.logits.talking else None
            rest = lambda: joined(jnp.zeros_like(own))[0] if others else None
            out = intervened(self, out, trace, lambda: there.values, rest=rest, mix=mix)
        if self.head_gate:
            gate = jnp.tanh(self.gate.astype(common(out, self.gate)))
            out = out * gate.astype(out.dtype)[None, None, :, None]
        return self.out(out.reshape(*x.shape[:2], self.heads * self.read)), trace

    def _turned(self, heads, positions):
        """Queries or keys (B, T, H, D), where positions are coordinates."""
        if positions is None or self.positions != "rotary":
            return heads
        rotary = self.rotary
        return rotate(heads, positions, longest=rotary.theta, neighbours=rotary.interleaved)

    def _read(self, queries, context, **how):
        keys, values = context.keys.transpose(0, 2, 1, 3), context.values.transpose(0, 2, 1, 3)
        how |= {"mask": combine_masks(context.mask), "layout": self.layout}
        how["dropout"] = self.weight_dropout()
        if self.logits.talking:
            mixes = self.logits_mix, self.weights_mix
            return talk(queries, keys, values, self.logits, *mixes, **how)
        return attend_heads(queries, keys, values, self.logits, **how)

    def _extra(self, queries):
        """(out, lse) of the keys that are always there."""
        B, found = queries.shape[0], []
        for own in self._learned():
            heads_first = (leaf.astype(queries.dtype).swapaxes(0, 1) for leaf in own)
            keys, values = (jnp.broadcast_to(leaf[None], (B, *leaf.shape)) for leaf in heads_first)
            out, trace = self._read(queries, ProjectedContext(keys, values))
            found.append((out, trace.lse))
        return found

    def _sinks(self, dtype):
        """Logits (1, H|1, 1) of the keys whose value is 0."""
        if self.extra_keys.zero_attn:
            yield jnp.zeros((1, 1, 1), dtype)
        if self.extra_keys.sink:
            yield self.sink.astype(dtype)[None, :, None]

    def _learned(self):
        """Learned keys and values (R, K, D)."""
        if self.extra_keys.bias_kv:
            yield self.bias_k[None], self.bias_v[None]
        if self.extra_keys.registers:
            yield self.register_keys, self.register_values
