"""Prompts and an image change each other, and the prompts read once more: SAM's decoder."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.config import BlockConfig, ResidualConfig
from crossattn.nn.families.two_stream import TwoStreams
from crossattn.nn.families.two_stream_stack import StreamStack
from crossattn.nn.module import Module
from crossattn.ops import Mask
from crossattn.shapes import Array, Float

__all__ = ["TwoWayTransformer"]


class TwoWayTransformer(Module):
    """SAM's, between prompts and masks (Kirillov et al. 2023, "Segment Anything").

    Attributes:
      layers: L, at least 2.
      width: M.
      heads: H.
      hidden: width of the layers of prompts alone.
      epsilon: of the norms, but for the last.
      downsample: by which the width is divided in the last attention; in the others by 2.
      activation: of the layers of prompts alone, as of `MLPConfig`.

    Raises:
      ValueError: less than two layers.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> model = TwoWayTransformer(2, 8, 2, hidden=16)
      >>> prompts, image = jnp.ones((1, 3, 8)), jnp.ones((1, 12, 8))
      >>> ((x, context), _), _ = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), prompts, image, image))
      >>> x.shape, context.shape
      ((1, 3, 8), (1, 12, 8))
    """

    layers: int
    width: int
    heads: int
    hidden: int = 2048
    epsilon: float = 1e-6
    downsample: int = 2
    activation: Any = "relu"

    def setup(self):  # noqa: D102 - Linen calls it
        if self.layers < 2:
            raise ValueError(f"a two-way transformer has at least 2 layers, got {self.layers}")
        self.first = self._layer("sam_two_way_first")
        self.stack = StreamStack(self._layer("sam_two_way"), self.layers - 1)
        design: Any = presets.config("sam_two_way")
        size = self.width // self.downsample // self.heads
        attention = replace(design.cross_attention, head_size=size)
        last = ResidualConfig(norm="post", epsilon=1e-5)
        alone = BlockConfig(order=("cross",), residual=last, cross_attention=attention)
        self.final = Block(self.width, self.heads, alone)

    def _layer(self, preset: str) -> TwoStreams:
        design: Any = presets.config(preset)
        norms = {
            name: replace(getattr(design, name), epsilon=self.epsilon)
            for name in ("residual", "cross_residual", "self_residual")
            if getattr(design, name, None) is not None
        }
        mlp = replace(design.mlp, expansion=self.hidden / self.width, activation=self.activation)
        return TwoStreams(self.width, self.heads, replace(design, mlp=mlp, **norms), parent=None)

    def __call__(
        self,
        prompts: Float[Array, "B T M"],
        image: Float[Array, "B S M"],
        places: Float[Array, "_ S M"],
        *,
        mask: Mask | None = None,
        observe: Callable[[Any], Any] = lambda traces: None,
    ) -> tuple[tuple[Float[Array, "B T M"], Float[Array, "B S M"]], tuple[Any, Any, Any]]:
        """Both streams.

        Args:
          prompts: (B, T, M), which are their own places as well.
          image: (B, S, M).
          places: of the image.
          mask: which prompts are there.
          observe: applied to the traces of the first layer, of each layer of the others, which are
            pairs (prompts read, image reads), and of the last reading, a trace.

        Returns:
          Prompts and image, and what was observed of these three.
        """
        where: dict[str, Any] = {
            "x_positions": prompts,
            "context_positions": places,
            "x_mask": mask,
        }
        pair, one = self.first((prompts, image), **where)
        pair, others = self.stack(pair, **where, observe=observe)
        trace: Any
        x, trace = self.final(*pair, query_positions=prompts, key_positions=places)
        return (x, pair[1]), (observe(one), others, observe(trace))
