"""How words are joined to the context: one small function for each use of a preset."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.image_attention import ImageAttention
from crossattn.models.packed import PackedRows
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.config import BlockConfig
from crossattn.nn.families.coca import CocaDecoder
from crossattn.nn.families.interleaved import Interleaved
from crossattn.nn.families.latents import Latents
from crossattn.nn.families.qformer import QFormer
from crossattn.nn.module import PolicyModule
from crossattn.nn.scan import scan_layers
from crossattn.nn.stack import Stack
from crossattn.nn.sublayers import combine_masks
from crossattn.nn.tables import learned
from crossattn.ops import AttentionTrace, Mask
from crossattn.ops.positions import grid_coordinates
from crossattn.shapes import Array, Float

__all__ = ["Streams", "connected", "decoded"]


@dataclasses.dataclass(frozen=True)
class Streams:
    """What is joined.

    Attributes:
      config: of the model.
      x: words (B, T, M).
      place: their learned positions (T, M), which are among x.
      context: (I, S, M), or one for each layer (L, I, S, M).
      visible: tokens of it that may be read by every layer or by each, (1|L, I, S).
      truth: (B, T, P) what position t may see of the patches; None: all.
      prompt: (B, T) words that the context may read.
      patches: P, number of the first tokens of the context that are patches.
      observe: applied to the `ImageAttention` of each layer.
      policy: fields of every module.
      rows: that texts share, x being (R, L, M); None where each has its own.
    """

    config: VisionLanguageConfig
    x: Any
    place: Any
    context: Any
    visible: Any
    truth: Any
    prompt: Any
    patches: int
    observe: Callable[[ImageAttention], Any]
    policy: dict[str, Any]
    rows: PackedRows | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Width and heads of every layer."""
        return self.config.width, self.config.heads

    @property
    def remat(self) -> Any:
        """As the field of stacks."""
        return self.config.remat or None

    def each(self, leaf: Array) -> Array:
        """What all layers share (1, ...) or each has (L, ...), for each layer that reads."""
        return jnp.broadcast_to(leaf, (self.config.reading_layers, *leaf.shape[1:]))

    def look(
        self, trace: AttentionTrace, through: AttentionTrace | None = None, *, shared: int = 0
    ) -> Any:
        """What is observed of one layer."""
        texts = self.x.shape[0] // trace.q.shape[0]
        return self.observe(ImageAttention(trace, through, self.patches, texts, shared))

    def positions(self, model: nn.Module, config: Any) -> tuple[Any, Any]:
        """Of the words and of the context, as the attentions of a configuration take them.

        Vectors are learned.
        """
        kinds = {config.self_attention.positions, config.cross_attention.positions} - {None}
        if len(kinds) > 1:
            raise ValueError(
                "model.block: self_attention.positions and cross_attention.positions are both "
                '"rotary" or both "add" where both are given'
            )
        S = self.context.shape[-2]
        if not kinds:
            return None, None
        if kinds == {"add"}:
            start = nn.initializers.normal(0.1)
            there = learned(model, "context_position", start, (S, self.config.width))
            words, there = self.place[None], there[None]
        else:
            words, there = self.rotary(S)
        if self.rows is None:
            return words, there
        return self.rows.of_words(words), jnp.tile(there, (1, self.rows.each, 1))

    def rotary(self, tokens: int) -> tuple[Any, Any]:
        """Coordinates of the words and of so many tokens of the context."""
        words, there = line(self.place.shape[0]), line(tokens)
        if self.config.rotary_axes == 1:
            return words, there
        side = math.isqrt(tokens)
        if side**2 != tokens:
            raise ValueError(
                f"model.rotary_axes 2 is for a square of patches, {tokens} make none: set it to 1"
            )
        return jnp.repeat(side + words, 2, axis=-1), grid_coordinates(side, side)[None]

    def side_by_side(self) -> "Streams":
        """Contexts as words read them: those of the images of a row as one."""
        if (rows := self.rows) is None:
            return self
        context = rows.of_images(self.context, self.context.ndim - 3)
        return dataclasses.replace(self, context=context, visible=rows.of_images(self.visible, 1))

    def masks(self) -> tuple[Mask, Mask | None]:
        """What words see of each other, and of contexts that do not stand side by side."""
        if self.rows is None:
            return Mask.causal(0), _truth(self)
        return self.rows.self_mask, self.rows.mask(self.context.shape[-2])


def line(size: int) -> Float[Array, "1 T 1"]:
    """Coordinates on a line."""
    return jnp.arange(size, dtype=jnp.float32)[None, :, None]


def square(size: int, side: float) -> Float[Array, "1 T 2"]:
    """Coordinates of so many tokens, row by row, on a square of that side.

    >>> square(4, 8.0).tolist()
    [[[2.0, 2.0], [2.0, 6.0], [6.0, 2.0], [6.0, 6.0]]]
    """
    columns = -(-size // round(size**0.5)) if size else 1
    place = jnp.arange(size)
    both = jnp.stack([place // columns, place % columns], axis=-1)
    return ((both.astype(jnp.float32) + 0.5) * (side / columns))[None]


def decoded(model: nn.Module, s: Streams, block: BlockConfig | None = None, inner: Any = None):
    """Words that read the context, in every layer or in some.

    Args:
      model: in which the modules are made.
      s: what is joined.
      block: of each layer; that of the model when None.
      inner: traces of what made the context of each layer, (L, ...), or None.

    Returns:
      The words, and what was observed; of CoCa the words of its lower half as well.
    """
    config = s.config
    block = block or cast(BlockConfig, config.block)
    words, keys = s.positions(model, block)
    own, mask = s.masks()
    s = s.side_by_side()
    where: dict[str, Any] = {"self_mask": own, "mask": mask}
    where |= {"visible": s.each(s.visible), "query_positions": words}
    if block.cross_attention.positions is not None:
        where["key_positions"] = keys
    fields = {**s.policy, "remat": s.remat, "name": "stack"}
    context = s.context
    if config.context_view == "truth" and ("merged" in block.order or block.concat_queries):
        # Rows that share a context and have keys of their own take masks of keys alone.
        texts = s.x.shape[0] // context.shape[0]
        context = jnp.repeat(context, texts, axis=0)
        where["visible"] = jnp.repeat(where["visible"], texts, axis=1)
        where["mask"] = _truth(s, texts=1)
    if context.ndim == 4:
        context, where["contexts"] = None, context
    if presets.get(config.preset).family == "coca":
        lower = dataclasses.replace(block, order=("self", "mlp"))
        stack: Any = CocaDecoder(config.layers, *s.sizes, lower, block, **fields)
        x, text, kept = stack(s.x, context, **where, observe=s.look)
        return x, kept, text
    every, reading = config.cross_every, config.reading_layers
    if config.use == "interleaved":
        stack = Interleaved(reading, every, *s.sizes, block, config.text_block, **fields)
        return stack(s.x, context, **where | {"mask": where["mask"] or Mask()}, observe=s.look)
    if every > 1:
        places = every, config.cross_at
        group = SparseBlock(*s.sizes, block, *places, **s.policy, name="stack")
        visible, contexts = where.pop("visible"), where.pop("contexts", None)

        def step(group, x, context, where, visible, mine, other):
            mask = combine_masks(where["mask"], Mask.keys(visible))
            x, trace = group(x, context if mine is None else mine, **where | {"mask": mask})
            return x, s.look(trace, other)

        depth = {"layers": reading, "remat": s.remat}
        return scan_layers(step, group, s.x, (context, where), (visible, contexts, inner), **depth)
    stack = Stack(config.layers, *s.sizes, block, **fields)
    return stack(s.x, context, **where, others=inner, observe=s.look)


class SparseBlock(PolicyModule):
    """A block that reads the context among blocks of the same kind that do not.

    Attributes:
      width: M.
      heads: H.
      config: of the block that reads.
      every: how many blocks there are.
      before: how many of them stand before it.
      others: as those of `PolicyModule`.
    """

    width: int
    heads: int
    config: BlockConfig
    every: int
    before: int

    @nn.compact
    def __call__(self, x: Array, context: Array, **where: Any) -> tuple[Array, AttentionTrace]:
        """The words behind all blocks, and the trace of reading; arguments as of `Block`."""
        sizes, trace = (self.width, self.heads), None
        order = tuple(part for part in self.config.order if part != "cross")
        text = dataclasses.replace(self.config, order=order)
        own = {name: where[name] for name in ("self_mask", "query_positions")}
        for number in range(self.every):
            if number == self.before:
                reading = Block(*sizes, self.config, **self.policy, name="reading")
                x, trace = reading(x, context, **where)
            else:
                x, _ = Block(*sizes, text, **self.policy, name=f"text{number}")(x, None, **own)
        return x, cast(AttentionTrace, trace)


def _truth(s: Streams, texts: int | None = None) -> Mask | None:
    """The mask of words that each see the true region; all where there is none."""
    if s.truth is None:
        return None
    rows = s.truth.shape[0] if texts else s.context.shape[0]
    truth = s.truth.reshape(rows, -1, s.truth.shape[-1])
    somewhere = jnp.any(truth, axis=-1, keepdims=True)
    other = jnp.ones((*truth.shape[:2], s.context.shape[1] - s.patches), bool)
    return Mask.dense(jnp.concatenate([truth | ~somewhere, other], axis=-1)[:, None])


def connected(model: nn.Module, s: Streams) -> tuple[Any, ...]:
    """Learned latents read what each layer sees, once where all see the same; words read them."""
    config, own = s.config, cast(BlockConfig, s.config.block)
    name = config.connector or config.preset
    decoder = own if config.connector else presets.config("encoder_decoder_pre")
    block = presets.config(name) if config.connector else own
    mlp = dataclasses.replace(decoder.mlp, expansion=own.mlp.expansion)
    decoder = dataclasses.replace(decoder, mlp=mlp)
    if config.connector:
        mlp = dataclasses.replace(block.mlp, expansion=own.mlp.expansion)
        block = dataclasses.replace(block, mlp=mlp)
    layers, flat = s.visible.shape[0], lambda leaf: leaf.reshape(-1, *leaf.shape[2:])
    context = flat(jnp.broadcast_to(s.context, (layers, *s.context.shape)))
    read = _qformer if presets.get(name).family == "qformer" else _latents
    latents, inner = read(s, block, context, Mask.keys(flat(s.visible)))
    by_layer = lambda leaf: s.each(leaf.reshape(layers, -1, *leaf.shape[1:]))
    shape = (1, *s.context.shape[:1], config.latents)
    behind = dataclasses.replace(
        s, context=by_layer(latents), visible=jnp.ones(shape, bool), truth=None
    )
    return decoded(model, behind, decoder, jax.tree.map(by_layer, inner))


def _latents(s: Streams, block: BlockConfig, context: Array, mask: Mask) -> tuple[Array, Any]:
    reader = Block(*s.sizes, block, **s.policy)
    where = {}
    if block.cross_attention.positions == "rotary":
        side = s.patches**0.5
        keys = square(s.patches, side)
        rest = jnp.zeros((1, context.shape[1] - s.patches, 2))
        where = {"query_positions": square(s.config.latents, side)}
        where["key_positions"] = jnp.concatenate([keys, rest], axis=1)
    module = Latents(s.config.latents, reader, final_norm=True, name="connector")
    return module(context, mask=mask, observe=lambda trace: trace, **where)


def _qformer(s: Streams, block: BlockConfig, context: Array, mask: Mask) -> tuple[Array, Any]:
    """Two layers, of which the first reads the image: the fewest that a Q-Former has."""
    fields = {**s.policy, "remat": s.remat, "name": "connector"}
    module = QFormer(2, *s.sizes, s.config.latents, config=block, **fields)
    (latents, _), (inner,) = module(context, mask=mask)
    return latents, inner
