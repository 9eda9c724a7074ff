"""Texts that share a row: each word sees the words of its own text, and its own image, alone."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from crossattn.models.config import VisionLanguageConfig
from crossattn.nn.config import BlockConfig
from crossattn.ops import Mask
from crossattn.shapes import Array, Int

__all__ = ["PackedRows", "check_packing", "in_rows"]


def check_packing(config: VisionLanguageConfig) -> None:
    """Make sure that what a model makes of a text is the same in a row with others.

    Raises:
      ValueError: it is not; says what to change.
    """
    block, off = config.block, "set data.packing to 0"
    if config.use not in ("decoder", "interleaved", "connector"):
        raise ValueError(
            f"data.packing is for words that read the context and are not read by it, as in "
            f"encoder_decoder_pre or flamingo, not in model.preset {config.preset}: {off}"
        )
    if config.context_view == "truth":
        raise ValueError(f"data.packing is not for model.context_view truth: {off}")
    assert isinstance(block, BlockConfig)
    competing = [
        part
        for part in ("self_attention", "cross_attention")
        if getattr(block, part).logits.competition == "queries"
    ]
    if competing or block.concat_queries:
        what = f"{competing[0]}.logits.competition" if competing else "concat_queries"
        raise ValueError(
            f"data.packing: by model.block.{what} words of other texts in a row have a part: {off}"
        )


def in_rows(packed: Int[Array, "R L"], x: Array) -> Array:
    """What texts have at each place (B, T, ...), where it stands in rows (R, L, ...).

    Behind the last text of a row there are zeros.

    Example:
      >>> in_rows(jnp.array([[0, 1, 3, -1]]), jnp.array([[5, 6, 0], [7, 0, 0]])).tolist()
      [[5, 6, 7, 0]]
    """
    rows, length = packed.shape
    side = x.reshape(rows, -1, *x.shape[2:])
    at = jnp.maximum(packed, 0).reshape(rows, length, *[1] * (x.ndim - 2))
    found = jnp.take_along_axis(side, at, axis=1)
    there = (packed >= 0).reshape(at.shape)
    return jnp.where(there, found, jnp.zeros((), x.dtype))


@dataclasses.dataclass(frozen=True)
class PackedRows:
    """Rows of several texts, beside the rows that their images are.

    Attributes:
      places: (R, L) as `Batch.packed` has them.
      length: T, places of a text unpacked.
      texts: B.
      images: I.
    """

    places: Any
    length: int
    texts: int
    images: int

    @property
    def each(self) -> int:
        """K, images of a row."""
        return self.images // self.places.shape[0]

    @property
    def self_mask(self) -> Mask:
        """Words see those before them in their own text."""
        text = jnp.where(self.places < 0, -1, self.places // self.length)
        return Mask.segments(text, text) & Mask.causal(0)

    def mask(self, tokens: int) -> Mask:
        """Words see the context of their own image, of so many tokens."""
        of_each = self.length * (self.texts // self.images)
        image = jnp.where(self.places < 0, -1, self.places // of_each)
        shown = jnp.repeat(jnp.arange(self.each), tokens)
        return Mask.segments(image, jnp.broadcast_to(shown, (len(image), len(shown))))

    def of_words(self, x: Array) -> Array:
        """What all texts have at each place (1, T, C), where it stands in the rows (R, L, C)."""
        return in_rows(self.places, jnp.broadcast_to(x, (self.texts, *x.shape[1:])))

    def of_images(self, x: Array, axis: int) -> Array:
        """What images have along an axis, side by side along the next one in their rows."""
        shape = x.shape[:axis], x.shape[axis + 1], x.shape[axis + 2 :]
        return x.reshape(*shape[0], -1, self.each * shape[1], *shape[2])
