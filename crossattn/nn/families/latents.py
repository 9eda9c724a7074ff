"""Learned queries that read a context of any length: poolers, resamplers, attention heads."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn.nn.block import Block
from crossattn.nn.layers.norm import Norm
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["Latents"]


class Latents(Module):
    """L learned queries are the stream of a block or of a stack.

    Which published module it is, the reader's configuration says: resamplers (Flamingo: Alayrac et
    al. 2022; Idefics2: Laurençon et al. 2024) are stacks with a final norm, the poolers of CoCa (Yu
    et al. 2022) and SigLIP (Zhai et al. 2023) and the projector of Kosmos-2 (Peng et al. 2023) are
    one block. The queries start at random; those of Idefics2 start at 1, all equal.

    Attributes:
      count: L.
      reader: a `Block`, or a `Stack` of them.
      final_norm: what the reader returns is normed, as its sublayers are.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> stack = Stack(layers=2, width=8, heads=2, config=presets.config("resampler"))
      >>> module = Latents(3, stack, final_norm=True)
      >>> (y, kept), _ = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0),
      ...     jnp.ones((5, 7, 8)), observe=lambda trace: trace.entropy()))
      >>> y.shape, kept.shape
      ((5, 3, 8), (2, 5, 2, 3))
    """

    count: int
    reader: Block | Stack
    final_norm: bool = False

    @nn.compact
    def __call__(
        self,
        context: Float[Array, "B S N"],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
        **positions: Any,
    ) -> tuple[Float[Array, "B L M"], Any]:
        """Read the context.

        Args:
          context: (B, S, N).
          mask: what of it the queries may see. Where they see nothing they are not changed by it:
            they run through the other sublayers.
          observe: applied to the trace of the attention to the context.
          **positions: `query_positions` and `key_positions`, where the reader has positions.

        Returns:
          The queries after they have read, in the dtype of the context (of the stack, where it has
          one), and what was observed; of a stack with a leading axis of its layers.
        """
        start = nn.initializers.normal(1.0)
        made_in = self.reader.param_dtype
        latents = learned(self, "latents", start, (self.count, self.reader.width), made_in)
        x = latents.astype(context.dtype)[None].repeat(context.shape[0], axis=0)
        if isinstance(self.reader, Stack):
            y, kept = self.reader(x, context, mask=mask, observe=observe, **positions)
        else:
            trace: Any
            y, trace = self.reader(x, context, mask=mask, **positions)
            kept = observe(trace)
        if not self.final_norm:
            return y, kept
        residual = self.reader.config.residual
        return Norm(residual.norm_kind, residual.epsilon, made_in, name="norm")(y), kept
