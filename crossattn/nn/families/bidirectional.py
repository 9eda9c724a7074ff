"""Two streams read each other through one product."""

import jax.numpy as jnp

from crossattn import renamed
from crossattn.nn.dtypes import promoted
from crossattn.nn.interventions import intervened, without_edges
from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import PolicyModule
from crossattn.nn.reading import attend_over
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["BidirectionalAttention"]


class BidirectionalAttention(PolicyModule):
    """Two streams read each other through one product of references (GLIP: Li et al. 2022).

    The logits of one direction are those of the other transposed; each direction takes its own
    softmax, over its own keys, and has its own values.

    Attributes:
      width: M of x.
      heads: H.
      head_size: D; M / H when None.
      context_width: N of the context; M when None.
      shared: both streams have the same projections (LightGlue: Lindenberger et al. 2023), and then
        the same width.
      others: as those of `PolicyModule`; dropout is that of weights, that of its output the
        layer's.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn import Mask
      >>> x, context = jnp.ones((2, 3, 8)), jnp.ones((2, 5, 8))
      >>> module = BidirectionalAttention(width=8, heads=2)
      >>> (read, answer, _), _ = module.init_with_output(
      ...     jax.random.key(0), x, context, mask=Mask(), context_to_x=Mask())
      >>> read.shape, answer.shape
      ((2, 3, 8), (2, 5, 8))
    """

    width: int
    heads: int
    head_size: int | None = None
    context_width: int | None = None
    shared: bool = False

    def setup(self):  # noqa: D102 - Linen calls it
        inner = self.heads * (self.head_size or self.width // self.heads)
        dense = lambda features: Dense(features, **self.dense_policy)
        self.reference, self.value, self.out = dense(inner), dense(inner), dense(self.width)
        if not self.shared:
            self.context_reference, self.context_value = dense(inner), dense(inner)
            self.context_out = dense(self.context_width or self.width)

    @renamed.arguments(back="context_to_x")
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"],
        *,
        mask: Mask,
        context_to_x: Mask | None,
    ) -> tuple[Float[Array, "B T M"], Float[Array, "B S N"] | None, AttentionTrace]:
        """What x reads under `mask`, the context under `context_to_x`, and the former's trace.

        Both read the other as it came in. Without `context_to_x` the context reads nothing (None).
        """
        read, answer, (trace, _) = self.both(x, context, mask=mask, context_to_x=context_to_x)
        return read, answer, trace

    @renamed.arguments(back="context_to_x")
    def both(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"],
        *,
        mask: Mask,
        context_to_x: Mask | None,
    ) -> tuple[
        Float[Array, "B T M"],
        Float[Array, "B S N"] | None,
        tuple[AttentionTrace, AttentionTrace | None],
    ]:
        """The same with the traces of both directions."""

        x, context = promoted(self.dtype, x, context)
        size = self.head_size or self.width // self.heads

        def heads(projection, stream):
            return projection(stream).reshape(*stream.shape[:2], self.heads, size)

        flat = lambda out: out.reshape(*out.shape[:2], self.heads * size)
        here = heads(self.reference, x)
        # Several rows of x may share a context, which is projected once.
        each = lambda heads: jnp.repeat(heads, x.shape[0] // context.shape[0], axis=0)
        own = self.reference, self.value, self.out
        if not self.shared:
            own = self.context_reference, self.context_value, self.context_out
        reference, value, out = own
        there = each(heads(reference, context))

        def attend(queries, keys, values, mask):
            how = {"implementation": self.implementation, "dropout": self.weight_dropout()}
            return attend_over(self.layout, queries, keys, values, mask=mask, **how)

        values = each(heads(value, context))
        read, trace = attend(here, there, values, without_edges(self, mask))
        read = intervened(self, read, trace, lambda: values.swapaxes(1, 2))
        read = self.out(flat(read))
        if context_to_x is None:
            return read, None, (trace, None)
        answer, trace_back = attend(there, here, heads(self.value, x), context_to_x)
        return read, out(flat(answer)), (trace, trace_back)
