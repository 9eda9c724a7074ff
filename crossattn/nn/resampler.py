"""A few learned latents read a context of any length."""

from flax import linen as nn

from crossattn.nn.attention import CrossAttention
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.norm import LayerNorm
from crossattn.nn.module import Module
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float
from crossattn.sharding import ContextParallel


class Resampler(Module):
    """l += A(LN l, context); l += F(LN l); LN (Perceiver: Jaegle et al. 2021, one layer of it).

    Attributes:
      latents: R, tokens that come out.
      width: M.
      heads: H.
      expansion: hidden width of the feed-forward layer, in units of M.
      layout: of latents and context over devices, as in `CrossAttention`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> module = Resampler(latents=3, width=8, heads=2)
      >>> (latents, trace), _ = module.init_with_output(jax.random.key(0), jnp.ones((2, 50, 5)))
      >>> latents.shape, trace.weights().shape
      ((2, 3, 8), (2, 2, 3, 50))
    """

    latents: int
    width: int
    heads: int
    expansion: int = 4
    layout: ContextParallel | None = None

    @nn.compact
    def __call__(
        self, context: Float[Array, "B S N"], *, mask: Mask | None = None
    ) -> tuple[Float[Array, "B R M"], AttentionTrace]:
        """Returns the latents and the trace by which a reader of them looks through them."""
        shape = (self.latents, self.width)
        # As large as the words and positions of a stream, of which latents are the beginning.
        start = learned(self, "latents", nn.initializers.normal(0.1), shape)
        x = start.astype(context.dtype)[None].repeat(context.shape[0], axis=0)
        attention = CrossAttention(
            self.width, self.heads, layout=self.layout, name="cross_attention"
        )
        y, trace = attention(LayerNorm(name="cross_norm")(x), context, mask=mask)
        x = x + y
        y = MLP(self.expansion, name="feed_forward")(LayerNorm(name="feed_forward_norm")(x))
        return LayerNorm(name="norm")(x + y), trace
