"""One group of `Interleaved`."""

from crossattn.nn.attention import ProjectedContext
from crossattn.nn.block import Block
from crossattn.nn.cache import KVCache
from crossattn.nn.config import BlockConfig
from crossattn.nn.module import PolicyModule
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float, Int

__all__ = ["Group"]


class Group(PolicyModule):
    """One block that reads images, and those behind it that read text alone.

    Attributes: as `Interleaved`, whose `reading` is `reads` here: "reading", "text0", "text1", ...
    name the parameters.
    """

    every: int
    width: int
    heads: int
    reads: BlockConfig
    text: BlockConfig

    def setup(self):  # noqa: D102 - Linen calls it
        self.reading = Block(self.width, self.heads, self.reads, **self.policy)
        for number in range(self.every):
            setattr(self, f"text{number}", Block(self.width, self.heads, self.text, **self.policy))

    @property
    def _texts(self) -> list[Block]:
        return [getattr(self, f"text{number}") for number in range(self.every)]

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | ProjectedContext,
        *,
        mask: Mask,
        self_mask: Mask,
        query_positions: Float[Array, "_ T _"] | None,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace | None]:
        """Returns the words, and the trace of their reading images."""
        x, trace = self.reading(x, context, mask=mask)
        for text in self._texts:
            x, _ = text(x, None, self_mask=self_mask, query_positions=query_positions)
        return x, trace

    def project(self, context: Float[Array, "I S N"], mask: Mask | None) -> ProjectedContext:
        """Keys and values of the images."""
        return self.reading.project(context, mask=mask)

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext,
        cache: tuple[KVCache, ...],
        position: Int[Array, ""],
        *,
        mask: Mask,
        query_positions: Float[Array, "_ T _"] | None,
    ) -> tuple[Float[Array, "B T M"], tuple[KVCache, ...], AttentionTrace | None]:
        """The words from `position` on, the caches with them, the trace of their reading images."""
        x, trace = self.reading(x, context, mask=mask)
        kept = []
        for text, before in zip(self._texts, cache, strict=True):
            x, after, _ = text.decode_step(
                x, None, before, position, query_positions=query_positions
            )
            kept.append(after)
        return x, tuple(kept), trace
