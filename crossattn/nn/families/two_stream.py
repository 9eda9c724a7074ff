"""Two streams that change each other: one module for any `TwoStreamConfig`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import renamed
from crossattn.nn.config import TwoStreamConfig
from crossattn.nn.context import zero_masked
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.bidirectional import BidirectionalAttention
from crossattn.nn.families.stream import Stream, exchange_head_size
from crossattn.nn.layers.residual import Residual
from crossattn.nn.module import PolicyModule
from crossattn.nn.sublayers import attend_or_zero, both, combine_masks, zero_unless_visible
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["TwoStreams"]

Pair = tuple[Array | None, Array | None]
# Who reads the other stream: x is 0, the context 1.
EXCHANGES: dict[str, tuple[int, ...]] = {
    "cross": (0, 1),
    "x_to_context": (0,),
    "context_to_x": (1,),
}


@renamed.arguments(design="config")
class TwoStreams(PolicyModule):
    """One layer in which x and the context both change.

    Attributes:
      width: M of x.
      heads: H of all attentions.
      config: what it is made of.
      context_width: N of the context; M when None.
      others: as those of `PolicyModule`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import presets
      >>> layer = TwoStreams(8, 2, presets.config("vilbert"), context_width=6)
      >>> words, regions = jnp.ones((3, 5, 8)), jnp.ones((3, 7, 6))
      >>> seen = Mask.lengths(key=jnp.array([7, 2, 0]))
      >>> ((x, context), (trace, back)), _ = jax.eval_shape(lambda: layer.init_with_output(
      ...     jax.random.key(0), (words, regions), context_mask=seen))
      >>> x.shape, context.shape, trace.lse.shape, back.lse.shape
      ((3, 5, 8), (3, 7, 6), (3, 2, 5), (3, 2, 7))
    """

    width: int
    heads: int
    config: TwoStreamConfig = TwoStreamConfig()
    context_width: int | None = None

    def setup(self):  # noqa: D102 - Linen calls it
        config, other = self.config, self.context_width or self.width
        if self._shared and other != self.width:
            raise ValueError(
                f"streams of widths {self.width} and {other} cannot share weights: "
                'choose equal widths or exchange="separate"'
            )
        self.x = Stream(self.width, self.heads, config, **self.policy)
        if not config.siamese:
            self.context = Stream(other, self.heads, config, **self.policy)
        if config.exchange == "one-product":
            size = exchange_head_size(config, self.width, self.heads)
            fields = self.width, self.heads, size, other, config.siamese
            self.exchange = BidirectionalAttention(*fields, **self.policy)

    @renamed.arguments(back_mask="context_to_x_mask")
    def __call__(
        self,
        streams: tuple[Float[Array, "B T M"], Float[Array, "I S N"]],
        *,
        x_mask: Mask | None = None,
        context_mask: Mask | None = None,
        self_mask: Mask | None = None,
        context_to_x_mask: Mask | None = None,
        x_positions: Float[Array, "_ T _"] | None = None,
        context_positions: Float[Array, "_ S _"] | None = None,
        towers: tuple[Float[Array, "B T M"], Float[Array, "I S N"]] | None = None,
        readable: Mask | None = None,
        context_after: bool = True,
    ) -> tuple[
        tuple[Float[Array, "B T M"], Float[Array, "_ S N"]],
        tuple[AttentionTrace | None, AttentionTrace | None],
    ]:
        """Run the sublayers in their order.

        Args:
          streams: x (B, T, M) and the context (I, S, N). B / I neighbouring rows of x may share
            one until it reads x; from there on each has its own (B, S, N).
          x_mask: which tokens of x are there, for whoever reads them.
          context_mask: which tokens of the context are there.
          self_mask: what tokens of x may see of x besides.
          context_to_x_mask: what the context may see of x besides. Where x is causal, a word must
            not be among it that x is to predict: the next layer would read it in the context.
          x_positions: of x, where the design places it.
          context_positions: of the context, likewise.
          towers: states of the towers, for a design with a "link".
          readable: tokens of the context that may be read in this layer, a mask of keys; others
            keep a stream of their own.
          context_after: whether the context is read behind this layer; if not, what nobody reads
            of it is not computed.

        Returns:
          Both streams, and the traces of x reading the context and of the context reading x, None
          where there is no such attention. Who sees nothing is given nothing. A hidden token
          changes nothing elsewhere; what comes out in its place is made of zeros.

        Raises:
          TypeError: there is no context.
          ValueError: positions for a design that does nothing with them, towers and no link, or a
            stream of another width.
        """
        streams = both(streams, self._widths, otherwise=self._advice(streams))
        streams, towers = promoted(self.dtype, tuple(streams), towers)
        self._check((x_positions, context_positions), towers)
        positions, sides = (x_positions, context_positions), self._sides
        zeroed = lambda pair: [
            zero_masked(stream, mask, stream.shape[1])
            for stream, mask in zip(pair, (x_mask, context_mask), strict=True)
        ]
        pair, joined = zeroed(streams), () if towers is None else zeroed(towers)
        old = list(pair)
        here, there = combine_masks(x_mask), combine_masks(context_mask, readable)
        own = combine_masks(here, self_mask), there
        others = there, combine_masks(here, context_to_x_mask)
        traces, turn, few = [None, None], 0, pair[1].shape[0]
        for place, sublayer in enumerate(self.config.order):
            alone = self._changed(place, sublayer, context_after)
            if sublayer in EXCHANGES:
                read = old if sublayer == "cross" else list(pair)
                seen = _each(others[0], few, pair[1].shape[0]), others[1]
                if readers := [i for i in EXCHANGES[sublayer] if i in alone]:
                    self._exchange(readers, pair, read, traces, seen, positions)
            for i in () if sublayer in EXCHANGES else alone:
                if sublayer == "link":
                    pair[i] = sides[i].link(pair[i], _each(joined[i], few, pair[i].shape[0]))
                elif sublayer == "norm":
                    pair[i] = sides[i].norm(pair[i])
                elif sublayer == "self":
                    mask = _each(own[i], few, pair[i].shape[0])
                    pair[i], _ = sides[i].reads_itself(pair[i], mask, positions[i])
                else:
                    pair[i] = sides[i].feeds(pair[i], turn)
            turn += sublayer == "mlp"
            old = old if sublayer == "self" else list(pair)
        return (pair[0], pair[1]), (traces[0], traces[1])

    def _changed(self, place: int, sublayer: str, context_after: bool) -> tuple[int, ...]:
        """The streams (0: x, 1: the context) that a sublayer changes, as far as they are read."""
        order = self.config.order
        last = max((i for i, one in enumerate(order) if 0 in EXCHANGES.get(one, ())), default=-1)
        if order[last] == "cross" and self.config.exchange != "one-product":
            # It reads the other as it was before that has read itself.
            while last and order[last - 1] == "self":
                last -= 1
        unread = not context_after and place >= last
        return (0,) if unread or sublayer in self.config.one_sided else (0, 1)

    @property
    def _shared(self) -> bool:
        """Whether both directions have the same weights."""
        return self.config.siamese or self.config.exchange == "shared"

    @property
    def _widths(self) -> tuple[int, int]:
        return self.width, self.context_width or self.width

    def _advice(self, streams: Any) -> str:
        """What to do about a context of another width."""
        if self._shared:
            return f"these share weights, map the context to width {self.width} first"
        width = next(reversed(np.shape(streams[1])), None)
        return f"give context_width={width}, as in layer.clone(context_width={width})"

    @property
    def _sides(self) -> tuple[Stream, Stream]:
        return self.x, self.x if self.config.siamese else self.context

    def _check(self, positions: Pair, towers: Any) -> None:
        config = self.config
        used = config.self_attention.positions or config.cross_attention.positions
        if any(p is not None for p in positions) and not used:
            raise ValueError("positions were given, but this design does nothing with them")
        if (towers is None) == ("link" in config.order):
            raise ValueError('towers are needed by designs with a "link", and by no other')

    def _exchange(self, readers, pair, other, traces, masks, positions):
        """Readers of `pair` read the streams `other`; pair and traces are changed in place."""
        joins = [side.cross_residual for side in self._sides]
        if self.config.exchange == "shared":
            joins = [joins[0], joins[0]]
        given = [join.before(stream) for join, stream in zip(joins, pair, strict=True)]
        keys = [join.before(stream) for join, stream in zip(joins, other, strict=True)]
        if self.config.exchange == "one-product":
            found: Any
            back = masks[1] if 1 in readers else None
            seen = _each(masks[0], pair[1].shape[0], pair[0].shape[0])
            *read, found = self.exchange.both(*given, mask=seen, context_to_x=back)
            for i in readers:
                answer = zero_unless_visible(read[i], found[i].valid)
                pair[i], traces[i] = self._joined(i, joins[i], pair[i], answer), found[i]
            return
        for i in readers:
            side = self.x if self.config.exchange == "shared" else self._sides[i]
            answer, traces[i] = _read(
                side.cross_attention,
                given[i],
                keys[1 - i],
                mask=masks[i],
                positions=(positions[i], positions[1 - i]),
                intervene=i == 0 or not self._shared,
            )
            pair[i] = self._joined(i, joins[i], pair[i], answer)

    def _joined(self, i: int, residual: Residual, stream: Array, read: Array) -> Array:
        stream = _each(stream, stream.shape[0], read.shape[0])
        return self._sides[i].takes(residual, stream, read)


def _read(attention, x, context, *, mask, positions, intervene):
    """`attend_or_zero` of rows of which several share a context, or a context with several rows."""
    (B, T, M), I = x.shape, context.shape[0]  # noqa: E741 - I counts contexts
    if I > B:  # a context that is still shared reads each of its texts
        x = _each(x, B, I)
        how = {"mask": mask, "positions": positions, "intervene": intervene}
        return _read(attention, x, context, **how)
    own, other = positions
    if own is not None and B != I:
        own = jnp.broadcast_to(own, (B, *own.shape[1:])).reshape(I, -1, own.shape[-1])
    y, trace = attend_or_zero(
        attention,
        x.reshape(I, -1, M),
        context,
        mask=mask,
        x_positions=own,
        context_positions=other,
        intervene=intervene,
    )
    return y.reshape(B, T, y.shape[-1]), trace


def _each(tree: Any, few: int, many: int) -> Any:
    """What each of a few rows has, for all rows that share it."""
    few_rows = lambda leaf: jnp.ndim(leaf) and leaf.shape[0] == few
    each = lambda leaf: jnp.repeat(leaf, many // few, axis=0) if few_rows(leaf) else leaf
    return tree if few == many else jax.tree.map(each, tree)
