"""A causal text decoder over any context: captions, translations, transcripts."""

from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from crossattn import renamed
from crossattn.nn.cache import fits, kv_caches
from crossattn.nn.config import NormKind
from crossattn.nn.context import ContextOrPair, MaskOrPair, ProjectedOrPair, words
from crossattn.nn.dtypes import promoted
from crossattn.nn.families.interleaved import Interleaved
from crossattn.nn.head import Targets, cross_entropy
from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.mlp import ACTIVATIONS
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.positions import RelativeBias
from crossattn.nn.module import Module
from crossattn.nn.stack import Stack
from crossattn.nn.tables import Embed, exceeds, in_table, nan_from
from crossattn.ops import Mask
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["TextDecoder"]


@renamed.arguments(vocabulary="vocab_size")
class TextDecoder(Module):
    """Words and positions, a stack, and logits by the same word embeddings or by others.

    Attributes:
      stack: of the blocks, or groups of blocks that read images among blocks that read text. Of a
        `GatedStack` contexts, masks and traces are pairs.
      vocab_size: V.
      length: positions there are; None, where they are not learned: as many as one likes.
      first_norm: the embeddings are normed (BERT, BLIP).
      final_norm: what the stack returns is normed (designs whose norms stand before sublayers).
      transformed: a dense layer, the activation of the blocks and a norm stand before the logits,
        which have a bias (BERT, BLIP).
      epsilon: of these norms.
      norm_kind: of these norms.
      positions: "learned" vectors are added to the words; None: no vectors are.
      relative: a bias of the stack's self-attention by distance, shared by all layers (T5).
      embedding_scale: factor of the words before positions are added, as sqrt(M) in Vaswani et al.
        2017.
      untied: words have other embeddings in the logits (T5 1.1).
      output_bias: the logits have a bias.
      logits_scale: factor of what words are multiplied with, as 1 / sqrt(M) in T5.

    Raises:
      ValueError: a design that adds vectors of places (`positions="add"`); learned positions
        without a length; a bias by distance of a stack that is no `Stack`.

    Example:
      >>> import jax
      >>> from crossattn.nn import presets
      >>> stack = Stack(layers=2, width=8, heads=2, config=presets.config("whisper"))
      >>> model = TextDecoder(stack, vocab_size=11, length=6)
      >>> tokens, sound = jnp.ones((2, 5), int), jnp.ones((2, 7, 8))
      >>> (logits, _), params = jax.eval_shape(
      ...     lambda: model.init_with_output(jax.random.key(0), tokens, sound))
      >>> logits.shape
      (2, 5, 11)
    """

    stack: Stack | Interleaved
    vocab_size: int
    length: int | None
    first_norm: bool = False
    final_norm: bool = True
    transformed: bool = False
    epsilon: float = 1e-5
    norm_kind: NormKind = "layer"
    positions: Literal["learned"] | None = "learned"
    relative: RelativeBias | None = None
    embedding_scale: float = 1.0
    untied: bool = False
    output_bias: bool = False
    logits_scale: float = 1.0

    def setup(self):  # noqa: D102 - Linen calls it
        width = self.stack.width
        _check(self)
        self.words = Embed(self.vocab_size, width)
        if self.positions is not None:
            if self.length is None:
                raise ValueError("positions are learned: give length, how many there are")
            self.places = Embed(self.length, width)
        if self.first_norm:
            self.norm_first = Norm(self.norm_kind, self.epsilon)
        if self.final_norm:
            self.norm = Norm(self.norm_kind, self.epsilon)
        if self.transformed:
            self.transform = Dense(width)
            self.transform_norm = Norm(self.norm_kind, self.epsilon)
        if self.untied:
            self.output = Embed(self.vocab_size, width)
        if self._biased:
            self.bias = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        context: ContextOrPair,
        *,
        mask: MaskOrPair = None,
        observe: Callable[..., Any] = lambda trace: None,
        others: Any = None,
    ) -> tuple[Float[Array, "B T V"], Any]:
        """Logits of the word after each token, and what was observed of each layer.

        `others` is a pytree with a leading axis of layers, of which `observe` gets each layer's
        entry as a second argument: which of its heads are wanted.

        From a token outside of the vocabulary on they are NaN, where the tokens are known only when
        the program runs.

        Raises:
          ValueError: more tokens than positions, or one outside of the vocabulary if it is known.
        """
        x, there, kept = self._read(words(tokens), context, mask, observe, others)
        return nan_from(self._logits(self._transformed(x)), there), kept

    def cross_entropy(
        self,
        tokens: Int[Array, "B T"],
        context: ContextOrPair,
        targets: Targets,
        *,
        mask: MaskOrPair = None,
    ) -> tuple[Float[Array, ""], Bool[Array, "B T"]]:
        """The loss of `tokens` and whether each target is predicted, without all logits at once.

        Arguments as those of `__call__`, and the words that follow with their weights in the sum;
        see `crossattn.nn.head.cross_entropy`, also for what is returned and raised.
        """
        x, there, _ = self._read(words(tokens), context, mask, lambda trace: None)
        x = self._transformed(nan_from(x, there))
        bias = self.bias if self._biased else None
        return cross_entropy(x, self._table.embedding, targets, bias=bias)

    def project(self, context: ContextOrPair, *, mask: MaskOrPair = None) -> Any:
        """Keys and values of the context for every layer; what `mask` hides stays hidden."""
        stack: Any = self.stack
        return stack.project(context, mask=mask)

    def init_cache(self, rows: int, length: int, *, dtype: Any = None) -> Any:
        """An empty cache of `rows` texts of up to `length` words, in `dtype` as that of the stack.

        Raises:
          ValueError: there are no positions for so many words.
        """
        if exceeds(length, self.length):
            raise ValueError(f"{length} words, but this decoder has positions for {self.length}")
        return self.stack.init_cache(rows, length, dtype=dtype)

    def decode_step(
        self,
        tokens: Int[Array, " *N"],
        context: ProjectedOrPair,
        cache: Any,
        position: Int[Array, ""],
        *,
        mask: MaskOrPair = None,
        observe: Callable[..., Any] = lambda trace: None,
    ) -> tuple[Float[Array, "*N V"], Any, Any]:
        """Logits of the word after `tokens`, which stand at `position`, as `__call__` has them.

        One token of each text (N,), or several (N, T), the first of which stands there. Logits of
        the text and those of later steps are NaN where one is outside of the vocabulary, or a
        position lies beyond those there are or has no room in the cache, if that is known only
        when the program runs.

        Raises:
          ValueError: it is known; or the cache has more room than there are positions.
        """
        for _, one in kv_caches(cache):
            if exceeds(one.room, self.length):
                raise ValueError(
                    f"a cache for {one.room} tokens, but this decoder has positions for "
                    f"{self.length}: make it with init_cache(rows, {self.length})"
                )
        several = words(tokens[:, None] if jnp.ndim(tokens) == 1 else tokens)
        T = several.shape[1]
        there = in_table("token", several, self.vocab_size).all(axis=1)
        if self.length is not None:
            there &= fits(T, self.length, position, "positions")
        places = jnp.reshape(position, 1).astype(jnp.int32) + jnp.arange(T, dtype=jnp.int32)
        where: Any = {"mask": mask, "query_positions": _coordinates(places)}
        if self.relative is not None:
            where["self_bias"] = self.relative(places, kv_caches(cache)[0][1].room)
        x = self._embedded(several, places, context)
        x = jnp.where(there[:, None, None], x, jnp.nan)
        where["observe"] = observe
        stack: Any = self.stack
        x, cache, kept = stack.decode_step(x, context, cache, position, **where)
        logits = self._logits(self._transformed(x))
        return logits.reshape(*jnp.shape(tokens), -1), cache, kept

    start = renamed.method("start", "init_cache")

    def step(self, tokens: Any, place: Any, context: Any, past: Any, **where: Any) -> Any:
        """The former `decode_step`, which had its arguments in another order."""
        return renamed.method("step", "decode_step")(self, tokens, context, past, place, **where)

    @property
    def _biased(self) -> bool:
        return self.transformed or self.output_bias

    @property
    def _table(self) -> Embed:
        """The words that the logits are made with."""
        return self.output if self.untied else self.words

    def _embedded(self, tokens, places, context):
        """The stream, which is added up in the dtype in which the context is read."""
        own = [self.words(tokens)]
        if self.embedding_scale != 1:
            own = [own[0] * self.embedding_scale]
        if self.positions is not None:
            own.append(self.places(places)[None])
        x, *added = promoted(None, *own, context)[:-1]
        x = x + added[0] if added else x
        return self.norm_first(x) if self.first_norm else x

    def _read(self, tokens, context, mask, observe, others=None):
        """The stream behind the stack, which tokens have a word and a position, what was seen."""
        T = tokens.shape[1]
        if exceeds(T, self.length):
            raise ValueError(f"{T} tokens, but this decoder has positions for {self.length}")
        places = jnp.arange(T)
        there = in_table("token", tokens, self.vocab_size)
        if self.length is not None:
            there &= (places < self.length)[None]
        where: Any = {"mask": mask, "self_mask": Mask.causal(0)}
        where["query_positions"] = _coordinates(places)
        if self.relative is not None:
            where["self_bias"] = self.relative(places, T)
        x = self._embedded(tokens, places, context)
        where |= {} if others is None else {"others": others}
        x, kept = self.stack(x, context, **where, observe=observe)
        return x, there, kept

    def _transformed(self, x):
        """What words are multiplied with."""
        x = self.norm(x) if self.final_norm else x
        if self.transformed:
            design = self.stack.config if isinstance(self.stack, Stack) else self.stack.text
            x = self.transform_norm(ACTIVATIONS[design.mlp.activation](self.transform(x)))
        return x if self.logits_scale == 1 else x * self.logits_scale

    def _logits(self, x):
        logits = self._table.attend(x)
        if not self._biased:
            return logits
        return logits + self.bias.astype(logits.dtype)[None, None]


def _check(model: TextDecoder) -> None:
    """Refuse designs that add vectors of places to what attention reads: there are none."""
    stack = model.stack
    if model.relative is not None and not isinstance(stack, Stack):
        raise ValueError("a bias by distance is that of a Stack: leave relative out")
    designs = [stack.config] if isinstance(stack, Stack) else [stack.reading, stack.text]
    for config in designs:
        if "add" in (config.self_attention.positions, config.cross_attention.positions):
            raise ValueError(
                'a TextDecoder adds positions to its words, and has no others for positions="add": '
                'write positions="rotary", or leave it out'
            )


def _coordinates(places: Array) -> Array:
    """For designs that turn words by their places; others do nothing with them."""
    return places.astype(jnp.float32)[None, :, None]
