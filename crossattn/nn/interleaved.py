"""Text with images in between: blocks that read images stand among blocks that only read text."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn.nn.block import Block
from crossattn.nn.blocks import scan_layers
from crossattn.nn.design import Design
from crossattn.ops import Mask, Trace
from crossattn.shapes import Array, Float

__all__ = ["Interleaved"]


class Interleaved(nn.Module):
    """`groups` groups of one block that reads images and `every` blocks that read text alone.

    Text sees images through `Mask.media`: the latest one, or all before it. A word before any image
    reads exactly nothing, so that it is what it is in the same model without images, to the bit.

    Attributes:
      groups: L.
      every: text blocks behind each block that reads images.
      width: M.
      heads: H.
      reading: design of the blocks that read images ("flamingo", "idefics", "mllama").
      text: design of the others, whose order has no "cross".

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn.presets import DESIGNS, TEXT
      >>> model = Interleaved(2, 2, width=8, heads=2, reading=DESIGNS["flamingo"], text=TEXT)
      >>> words, patches = jnp.ones((1, 5, 8)), jnp.ones((1, 6, 8))
      >>> begun = jnp.array([[0, 1, 1, 2, 2]])  # images that have begun at each word
      >>> media = Mask.media(begun, jnp.array([[1, 1, 1, 2, 2, 2]]))
      >>> (y, seen), _ = jax.eval_shape(lambda: model.init_with_output(
      ...     jax.random.key(0), words, patches, mask=media, observe=lambda trace: trace.valid))
      >>> y.shape, seen.shape  # the first word sees no image in any of the two groups
      ((1, 5, 8), (2, 1, 2, 5))
    """

    groups: int
    every: int
    width: int
    heads: int
    reading: Design
    text: Design

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "B S N"],
        *,
        mask: Mask,
        observe: Callable[[Trace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the groups; the text is causal.

        Args:
          x: words (B, T, M).
          context: tokens of all images (B, S, N).
          mask: which words see which of them, see `Mask.media`.
          observe: as in `Stack`.

        Returns:
          The words, and what was observed with a leading axis L.
        """

        def step(group, x, context, mask):
            x, trace = group(x, context, mask=mask)
            return x, observe(trace)

        group = Group(self.every, self.width, self.heads, self.reading, self.text, name="groups")
        return scan_layers(step, group, x, (context, mask), layers=self.groups)


class Group(nn.Module):
    """One block that reads images, and those behind it that read text alone.

    Attributes: as `Interleaved`.
    """

    every: int
    width: int
    heads: int
    reading: Design
    text: Design

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T M"], context: Float[Array, "B S N"], *, mask: Mask
    ) -> tuple[Float[Array, "B T M"], Trace | None]:
        """Returns the words, and the trace of their reading images."""
        x, trace = Block(self.width, self.heads, self.reading, name="reading")(
            x, context, mask=mask
        )
        for number in range(self.every):
            text = Block(self.width, self.heads, self.text, name=f"text{number}")
            x, _ = text(x, None, self_mask=Mask.causal(0))
        return x, trace
