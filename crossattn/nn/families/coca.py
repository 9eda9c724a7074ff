"""A decoder whose lower half knows the text only."""

from collections.abc import Callable
from typing import Any

from crossattn import renamed
from crossattn.nn.attention import ProjectedContext
from crossattn.nn.cache import KVCache
from crossattn.nn.config import BlockConfig
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import Remat
from crossattn.nn.stack import Stack
from crossattn.nn.sublayers import combine_masks
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["CocaDecoder"]


class CocaDecoder(PolicyModule):
    """Layers that read the text, then as many that read the image as well (CoCa: Yu et al. 2022).

    What the lower half makes of a text is compared with images; the upper half writes captions.

    Attributes:
      layers: L of both halves together; of an odd number the upper half has one more.
      width: M.
      heads: H.
      lower: of the layers without the image.
      upper: of those with it.
      remat: as in `Stack`.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> decoder = presets.build("coca_decoder", width=8, heads=2, layers=4)
      >>> words, patches = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 8))
      >>> (y, text, kept), _ = jax.eval_shape(lambda: decoder.init_with_output(
      ...     jax.random.key(0), words, patches, observe=lambda trace: trace.entropy()))
      >>> y.shape, text.shape, kept.shape
      ((3, 5, 8), (3, 5, 8), (2, 3, 2, 5))
    """

    layers: int
    width: int
    heads: int
    lower: BlockConfig = BlockConfig(order=("self", "mlp"))
    upper: BlockConfig = BlockConfig()
    remat: Remat = None

    def __post_init__(self):
        super().__post_init__()
        if self.layers < 2:
            raise ValueError(f"CocaDecoder.layers is at least 2, one in each half: {self.layers}")

    def setup(self):  # noqa: D102 - Linen calls it
        below = self.layers // 2
        policy = {"remat": self.remat, **self.policy}
        self.text = Stack(below, self.width, self.heads, self.lower, **policy)
        self.joint = Stack(self.layers - below, self.width, self.heads, self.upper, **policy)

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | ProjectedContext | None,
        *,
        mask: Mask | None = None,
        self_mask: Mask | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
        **where: Any,
    ) -> tuple[Float[Array, "B T M"], Float[Array, "B T M"], Any]:
        """Run both halves; the text is causal.

        Args:
          x: embedded words (B, T, M).
          context: (I, S, N), or what `project` made of it.
          mask: what of the context the words may see.
          self_mask: what they may see of each other, besides being causal.
          query_positions: of the words, where the configuration has positions.
          observe: applied to every trace of the upper half.
          **where: what else the upper `Stack` takes: `contexts`, `visible`, `key_positions`.

        Returns:
          The stream, what the lower half made of the text alone, and what was observed.
        """
        causal = combine_masks(Mask.causal(0), self_mask)
        both: dict[str, Any] = {"self_mask": causal, "query_positions": query_positions}
        text, _ = self.text(x, None, **both)
        y, kept = self.joint(text, context, mask=mask, observe=observe, **both, **where)
        return y, text, kept

    def project(
        self, context: Float[Array, "B S N"], *, mask: Mask | None = None
    ) -> ProjectedContext:
        """Keys and values of the context for every layer of the upper half."""
        return self.joint.project(context, mask=mask)

    start = renamed.method("start", "init_cache")
    step = renamed.method("step", "decode_step")

    def init_cache(
        self, rows: int, length: int, *, dtype: Any = None
    ) -> tuple[tuple[KVCache, ...], tuple[KVCache, ...]]:
        """Empty caches of both halves, of `rows` texts of up to `length` words, as in `Stack`."""
        halves = self.text, self.joint
        lower, upper = (half.init_cache(rows, length, dtype=dtype) for half in halves)
        return lower, upper

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext,
        cache: tuple[tuple[KVCache, ...], tuple[KVCache, ...]],
        position: Int[Array, ""],
        *,
        mask: Mask | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], tuple[tuple[KVCache, ...], tuple[KVCache, ...]], Any]:
        """The next words; arguments and results as those of `Stack.decode_step`."""
        lower, upper = cache
        text, lower, _ = self.text.decode_step(x, None, lower, position)
        how: Any = {"mask": mask, "observe": observe}
        y, upper, kept = self.joint.decode_step(text, context, upper, position, **how)
        return y, (lower, upper), kept
