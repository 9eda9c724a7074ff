"""Attention modules: the projections around `crossattn.attend`."""

import jax.numpy as jnp
from flax import linen as nn
from flax import struct

from crossattn.nn.linear import Dense
from crossattn.ops import Mask, Trace, attend
from crossattn.shapes import Array, Float


@struct.dataclass
class Projected:
    """Keys and values of a context, projected once and read many times.

    Attributes:
      keys: (B, K, S, D), heads first: a step with few queries reads them without a transpose.
      values: (B, K, S, D).
      mask: what of the context may be seen, or None.
    """

    keys: Array
    values: Array
    mask: Mask | None = None


class CrossAttention(nn.Module):
    """Queries from one modality read keys and values of another (Vaswani et al. 2017).

    The context is required, and is an array (B, S, N) of any width N or what `project` made of it.

    Attributes:
      width: M, width of the query stream and of the output.
      heads: H, number of query heads.
      key_value_heads: K, a divisor of H (grouped queries); H when None.
      head_size: D; M / H when None.
      use_bias: whether the four projections have a bias.

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
    use_bias: bool = True

    def setup(self):  # noqa: D102 - Linen calls it
        if self.head_size is None and self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not a multiple of heads {self.heads}: "
                "choose another number of heads, or give head_size"
            )
        self.size = self.head_size or self.width // self.heads
        self.shared = self.key_value_heads or self.heads
        self.query = Dense(self.heads * self.size, use_bias=self.use_bias)
        self.key = Dense(self.shared * self.size, use_bias=self.use_bias)
        self.value = Dense(self.shared * self.size, use_bias=self.use_bias)
        self.out = Dense(self.width, use_bias=self.use_bias)

    def project(self, context: Float[Array, "B S N"], *, mask: Mask | None = None) -> Projected:
        """Keys and values of a context (B, S, N), to be passed as `context` any number of times."""

        def heads_first(projection):
            split = projection.reshape(*context.shape[:2], self.shared, self.size)
            return split.transpose(0, 2, 1, 3)

        return Projected(heads_first(self.key(context)), heads_first(self.value(context)), mask)

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "B S N"] | Projected,
        *,
        mask: Mask | None = None,
        bias: Float[Array, "_ _ _ _"] | None = None,
    ) -> tuple[Float[Array, "B T M"], Trace]:
        """Read the context with the queries of `x`.

        Args:
          x: query stream (B, T, M).
          context: (B, S, N), or `Projected`, whose mask is joined to `mask`.
          mask: what each query may see; a query that sees nothing gets the output bias only.
          bias: added to the logits, each of (B, H, T, S) full or 1.

        Returns:
          The output (B, T, M) and the trace of the attention.

        Raises:
          TypeError: when the context is None: cross-attention never falls back to self-attention.
        """
        if context is None:
            raise TypeError(
                "context is required: pass an array (B, S, N) or block.project(context); "
                "for self-attention use SelfAttention"
            )
        # A decoding step reads each key once; heads first, the dense products need no copy.
        step = isinstance(context, Projected) and x.shape[1] <= 8
        if not isinstance(context, Projected):
            context = self.project(context)
        queries = self.query(x).reshape(*x.shape[:2], self.heads, self.size)
        out, trace = attend(
            queries,
            context.keys.transpose(0, 2, 1, 3),
            context.values.transpose(0, 2, 1, 3),
            mask=_given(mask) & _given(context.mask),
            bias=bias,
            implementation="xla" if step else None,
        )
        return self.out(out.reshape(*x.shape[:2], -1)), trace


def _given(mask: Mask | None) -> Mask:
    """None restricts nothing, as does a mask without terms."""
    return Mask() if mask is None else mask


class SelfAttention(nn.Module):
    """The query stream reads itself.

    Attributes:
      width: M.
      heads: H, a divisor of M.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn import Mask
      >>> from crossattn.nn import SelfAttention
      >>> block = SelfAttention(width=8, heads=2)
      >>> x = jnp.ones((3, 5, 8))
      >>> params = block.init(jax.random.key(0), x)
      >>> y, _ = block.apply(params, x, mask=Mask.causal(0))
      >>> y.shape
      (3, 5, 8)
    """

    width: int
    heads: int

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T M"], *, mask: Mask | None = None
    ) -> tuple[Float[Array, "B T M"], Trace]:
        """Attend within `x` (B, T, M) under `mask`; returns the output and the trace."""
        projection = Dense(3 * self.width, name="query_key_value")(x)
        split = projection.reshape(*x.shape[:2], 3, self.heads, self.width // self.heads)
        queries, keys, values = jnp.moveaxis(split, 2, 0)
        out, trace = attend(queries, keys, values, mask=mask)
        return Dense(self.width, name="out")(out.reshape(x.shape)), trace
