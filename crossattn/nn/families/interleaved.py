"""Text with images in between: blocks that read images stand among blocks that only read text."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn

from crossattn import renamed
from crossattn.nn.attention import CrossAttention, ProjectedContext
from crossattn.nn.cache import KVCache, check_caches, empty_cache
from crossattn.nn.config import BlockConfig, fields_of
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.interleaved_group import Group
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import Remat, decode_layers, scan_layers
from crossattn.nn.sublayers import combine_masks
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["Interleaved"]


class Interleaved(PolicyModule):
    """`groups` groups of one block that reads images and `every` blocks that read text alone.

    (Alayrac et al. 2022, "Flamingo".) Text sees images through `Mask.media`: the latest one, or all
    before it. A word before any image reads exactly nothing: to the bit it is what the same call
    makes of it when no word sees an image, whatever the images are. What that is depends on
    `reading`, as published:

    * "flamingo", "idefics": the gated feed-forward layers of the reading blocks run for every word.
      Such a word is that of the text blocks alone only while these gates are closed, as they are at
      the start.
    * "mllama" (`skip_mlp_without_context`): these are left out as well. The reading blocks do
      nothing to such a word: it is that of the text blocks alone, whatever the parameters are.

    Packed texts, several in a row with their images: `Mask.segments` hides them from each other.

        mask = Mask.media(begun, image) & Mask.segments(text_of_word, text_of_patch)
        self_mask = Mask.segments(text_of_word, text_of_word)

    Attributes:
      groups: L.
      every: text blocks behind each block that reads images.
      width: M.
      heads: H.
      reading: of the blocks that read images ("flamingo", "idefics", "mllama"), in whose
        order words do not read each other.
      text: of the others, whose order has no "cross".
      remat: what the backward pass computes again of each group instead of keeping it, as in
        `Stack`.
      others: as those of `PolicyModule`.

    Raises:
      ValueError: a design whose order does not fit its place.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> designs = {"reading": presets.config("flamingo"), "text": presets.TEXT}
      >>> model = Interleaved(2, 3, width=8, heads=2, **designs)
      >>> words, patches = jnp.ones((1, 5, 8)), jnp.ones((1, 6, 8))
      >>> begun = jnp.array([[0, 1, 1, 2, 2]])  # images that have begun at each word
      >>> image = jnp.array([[1, 1, 1, 2, 2, 2]])
      >>> media = Mask.media(begun, image)
      >>> def run():
      ...     params = model.init(jax.random.key(0), words, patches, mask=media)
      ...     y, seen = model.apply(params, words, patches, mask=media,
      ...                           observe=lambda trace: trace.valid)
      ...     projected = model.apply(params, patches, method="project")
      ...     cache = model.apply(params, 1, 5, method="init_cache")
      ...     first, cache, _ = model.apply(params, words[:, :1], projected, cache, jnp.int32(0),
      ...         mask=Mask.media(begun[:, :1], image), method="decode_step")
      ...     return y, seen, first, cache
      >>> y, seen, first, cache = jax.eval_shape(run)  # the first word is that of y
      >>> y.shape, seen.shape, first.shape, len(cache), len(cache[0]), cache[0][0].keys.shape
      ((1, 5, 8), (2, 1, 2, 5), (1, 1, 8), 2, 3, (1, 2, 5, 4))
    """

    groups: int
    every: int
    width: int
    heads: int
    reading: BlockConfig
    text: BlockConfig
    remat: Remat = None

    @nn.compact
    def _group(self) -> Group:
        _check(self.reading, self.text)
        fields = self.every, self.width, self.heads, self.reading, self.text
        return Group(*fields, **self.policy, name="groups")

    def __call__(
        self,
        x: Float[Array, "B T M"],
        context: Float[Array, "I S N"] | ProjectedContext,
        *,
        mask: Mask,
        visible: Bool[Array, "L I S"] | None = None,
        self_mask: Mask | None = None,
        query_positions: Float[Array, "_ T _"] | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], Any]:
        """Run the groups; the text is causal.

        Args:
          x: words (B, T, M).
          context: tokens of all images (I, S, N), or what `project` made of them; B / I
            neighbouring rows of x share one, as in `Block`.
          mask: which words see which of them, see `Mask.media`; for I contexts.
          visible: tokens that each group may see besides, as in `Stack`.
          self_mask: which words before them the words may see; all when None.
          query_positions: of the words in the text blocks, where their design places them.
          observe: as in `Stack`, of the blocks that read images.

        Returns:
          The words, and what was observed with a leading axis L.
        """

        def step(group, x, shared, own):
            (context, mask, where), (mine, keys) = shared, own
            mask = mask if keys is None else mask & Mask.keys(keys)
            x, trace = group(x, context if mine is None else mine, mask=mask, **where)
            return x, observe(trace)

        x, context = promoted(self.dtype, x, context)
        own = context if isinstance(context, ProjectedContext) else None
        where = {
            "self_mask": combine_masks(Mask.causal(0), self_mask),
            "query_positions": query_positions,
        }
        shared, depth = (context if own is None else None, mask, where), {"layers": self.groups}
        both = (own, visible)
        return scan_layers(step, self._group(), x, (shared,), (both,), **depth, remat=self.remat)

    def project(
        self, context: Float[Array, "I S N"], *, mask: Mask | None = None
    ) -> ProjectedContext:
        """Keys and values of all images for every group, with a leading axis L."""

        def step(group, carry, context, mask):
            return carry, group.project(context, mask)

        shared = (*promoted(self.dtype, context), mask)
        return scan_layers(step, self._group(), (), shared, layers=self.groups)[1]

    start = renamed.method("start", "init_cache")
    step = renamed.method("step", "decode_step")

    def init_cache(
        self, rows: int, length: int, *, dtype: Any = None
    ) -> tuple[tuple[KVCache, ...], ...]:
        """Empty caches of `rows` texts of up to `length` words, `every` for each group.

        In `dtype`, as in `Stack`.
        """
        attention = CrossAttention(
            self.width, self.heads, **fields_of(self.text.self_attention), parent=None
        )
        dtype = self.dtype if dtype is None else dtype
        one = lambda: empty_cache(attention, rows, length, dtype)
        return tuple(tuple(one() for _ in range(self.every)) for _ in range(self.groups))

    def decode_step(
        self,
        x: Float[Array, "B T M"],
        context: ProjectedContext,
        cache: tuple[tuple[KVCache, ...], ...],
        position: Int[Array, ""],
        *,
        mask: Mask,
        query_positions: Float[Array, "_ T _"] | None = None,
        observe: Callable[[AttentionTrace], Any] = lambda trace: None,
    ) -> tuple[Float[Array, "B T M"], tuple[tuple[KVCache, ...], ...], Any]:
        """The next words: the same as `__call__` on all of them at once.

        Args:
          x: the words that follow (B, T, M).
          context: of every group, by `project`.
          cache: by `init_cache`, or what the step before returned.
          position: number of the first of these words.
          mask: what of the images these words see: `Mask.media` takes the counts (B, T) of these
            words alone.
          query_positions: of these words.
          observe: as above.

        Returns:
          The words, the cache with them, and what was observed.

        Raises:
          ValueError: the cache has no room for them, where `position` is known; where it is known
            only when the program runs, the output is NaN from there on.
        """

        def step(group, x, where, context, cache):
            x, cache, trace = group.decode_step(x, context, cache, **where)
            return x, cache, observe(trace)

        where = {"position": position, "mask": mask, "query_positions": query_positions}
        check_caches(cache, self.groups)
        x, context = promoted(self.dtype, x, context)
        return decode_layers(step, self._group(), x, (where,), context, cache)


def _check(reading: BlockConfig, text: BlockConfig) -> None:
    """Words must meet in the causal text blocks only."""
    if (
        "cross" not in reading.order
        or {"self", "merged"} & {*reading.order}
        or reading.concat_queries
    ):
        raise ValueError(
            f"reading: words read images and not each other, got order={reading.order}, "
            f'concat_queries={reading.concat_queries}: take one like presets.config("flamingo")'
        )
    if "self" not in text.order or {"cross", "merged"} & {*text.order}:
        raise ValueError(
            f"text: words read each other and no images, got order={text.order}: "
            "take one like presets.TEXT"
        )
