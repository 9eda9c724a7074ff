"""Attention to a text to which attention to pictures is added without touching the former."""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add
from typing import Any, cast

import jax.numpy as jnp

from crossattn.nn.attention import ProjectedContext
from crossattn.nn.context import tokens, zero_masked
from crossattn.nn.dtypes import promoted
from crossattn.nn.interventions import intervened, without_edges
from crossattn.nn.layers.dense import Dense
from crossattn.nn.module import PolicyModule
from crossattn.nn.reading import attend_over
from crossattn.nn.sublayers import combine_masks, required, zero_unless_visible
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["DecoupledAttention"]


class DecoupledAttention(PolicyModule):
    """W_o(A(q; text) + sum_i s_i A(q; picture_i) region_i) (IP-Adapter: Ye et al. 2023).

    Text and pictures are read by the same queries, each under its own softmax and with its own keys
    and values, and leave through the same output projection. To train the pictures' projections
    alone, freeze all but `picture_key_*` and `picture_value_*`.

    Attributes:
      width: M.
      heads: H, a divisor of M.
      pictures: how many kinds of pictures there are, each with its own keys and values.
      use_bias: of the projections of queries, of the text's keys and values and of the output: the
        letters of those that have one, of "qkvo". The pictures' have none.
      others: as those of `PolicyModule`; dropout is that of weights and of the output.

    Example:
      >>> import jax
      >>> module = DecoupledAttention(width=8, heads=2)
      >>> x, text, picture = jnp.ones((3, 6, 8)), jnp.ones((3, 7, 5)), jnp.ones((3, 4, 5))
      >>> (y, traces), _ = jax.eval_shape(lambda: module.init_with_output(
      ...     jax.random.key(0), x, [text, picture], scales=[0.5]))
      >>> y.shape, [trace.k.shape for trace in traces]
      ((3, 6, 8), [(3, 7, 2, 4), (3, 4, 2, 4)])
    """

    width: int
    heads: int
    pictures: int = 1
    use_bias: str = "o"

    def setup(self):  # noqa: D102 - Linen calls it
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        dense = partial(Dense, self.width, **self.dense_policy)
        biased = (dense(use_bias=letter in self.use_bias) for letter in "qkvo")
        self.query, self.key, self.value, self.out = biased
        each = range(self.pictures)
        self.picture_key = [dense(use_bias=False) for _ in each]
        self.picture_value = [dense(use_bias=False) for _ in each]

    def project(
        self,
        contexts: Sequence[Float[Array, "B _ _"]],
        *,
        masks: Sequence[Mask | None] | None = None,
    ) -> tuple[ProjectedContext, ...]:
        """Keys and values of the text and of the pictures, to be read in any number of steps."""
        self._check(contexts, masks=masks)
        masks = [None] * len(contexts) if masks is None else masks
        keys, values = [self.key, *self.picture_key], [self.value, *self.picture_value]
        each = zip(contexts, keys, values, masks, strict=True)
        return tuple(
            ProjectedContext(
                self._heads(k(c)).swapaxes(1, 2), self._heads(v(c)).swapaxes(1, 2), mask
            )
            for c, k, v, mask in each
        )

    def __call__(
        self,
        x: Float[Array, "B T M"],
        contexts: Sequence[Float[Array, "B _ _"] | ProjectedContext],
        *,
        scales: Sequence[float | Float[Array, ""]],
        masks: Sequence[Mask | None] | None = None,
        regions: Sequence[Float[Array, "_ T"] | None] | None = None,
    ) -> tuple[Float[Array, "B T M"], tuple[AttentionTrace, ...]]:
        """Read the text and the pictures.

        Args:
          x: queries (B, T, M).
          contexts: the text (B, S, N) and each picture (B, _, N), or what `project` made of them.
          scales: s of each picture; 0 leaves the text alone.
          masks: what of each context may be seen.
          regions: how far each picture counts for each query, (B|1, T); 1 when None.

        Returns:
          The output, exactly 0 for queries to which nothing counts that they see, and the traces of
          the text and of each picture.

        Raises:
          TypeError: a context is None, or `scales` is a single number.
          ValueError: not one context, scale, mask or region for each, or only some are projected.
        """
        x = tokens("x", x)
        self._check(contexts, scales=scales, masks=masks, regions=regions)
        x, contexts = promoted(self.dtype, x, list(contexts))
        masks = [None] * len(contexts) if masks is None else masks
        if not isinstance(contexts[0], ProjectedContext):
            given: Any = zip(contexts, masks, strict=True)
            bare = [zero_masked(c, mask, x.shape[1]) for c, mask in given]
            contexts = self.project(bare)
        regions = [None] * self.pictures if regions is None else regions
        one = jnp.ones((1, 1), x.dtype)
        weights = [one]
        for scale, region in zip(scales, regions, strict=True):
            region = one if region is None else region.astype(x.dtype)
            weights.append(region * jnp.asarray(scale, x.dtype))
        queries = self._heads(self.query(x))
        masks = [without_edges(self, combine_masks(masks[0])), *masks[1:]]
        found = [self._read(queries, *two) for two in zip(contexts, masks, strict=True)]
        text = cast(ProjectedContext, contexts[0])
        found[0] = intervened(self, *found[0], lambda: text.values), found[0][1]
        each = list(zip(found, weights, strict=True))
        total = reduce(add, [out * weight[..., None, None] for (out, _), weight in each])
        valid = [trace.valid & (weight != 0)[:, None] for (_, trace), weight in each]
        y = self.out(total.reshape(*x.shape[:2], self.width))
        return self.dropped(zero_unless_visible(y, *valid)), tuple(trace for _, trace in found)

    def _check(self, contexts: Any, *, masks: Any, **of_pictures: Any) -> None:
        """One of each for the text and the pictures, of some for the pictures alone."""
        required(contexts)
        for context in contexts:
            required(context)
        if not hasattr(of_pictures.get("scales", ()), "__len__"):
            each = [1.0] * self.pictures
            raise TypeError(f"scales has one number for each picture: write {each}")
        wanted: dict[str, Any] = {"contexts": (contexts, 1), "masks": (masks, 1)}
        wanted |= {name: (given, 0) for name, given in of_pictures.items()}
        for name, (given, text) in wanted.items():
            if given is not None and len(given) != self.pictures + text:
                raise ValueError(
                    f"{len(given)} {name} for pictures={self.pictures}: give "
                    f"{'one for the text and ' * text}one for each picture"
                )
        if len({isinstance(context, ProjectedContext) for context in contexts}) > 1:
            raise ValueError(
                "some contexts are arrays, others are projected: give all of them to "
                "module.project, or none"
            )

    def _read(
        self, queries: Array, context: Any, mask: Mask | None
    ) -> tuple[Array, AttentionTrace]:
        keys, values = context.keys.swapaxes(1, 2), context.values.swapaxes(1, 2)
        both = combine_masks(context.mask, mask)
        how: dict[str, Any] = {"mask": both, "implementation": self.implementation}
        how["dropout"] = self.weight_dropout()
        return attend_over(self.layout, queries, keys, values, **how)

    def _heads(self, stream: Array) -> Array:
        return stream.reshape(*stream.shape[:2], self.heads, self.width // self.heads)
