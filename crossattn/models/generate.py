"""Texts word by word from any decoder: greedy, sampled or by beam search, in one compiled loop."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn import renamed
from crossattn.models.arguments import (
    check_cache,
    check_words,
    integer,
    lengths_of,
    prompt_of,
    rows_axis,
    tokens_of,
)
from crossattn.models.beam import Beam
from crossattn.models.logits import Hook, edited
from crossattn.models.sampling import GREEDY, NOTHING, Greedy, OneText, Sample, Turn
from crossattn.nn.cache import KVCache
from crossattn.ops.reference import precision
from crossattn.shapes import Array

__all__ = ["Beam", "Greedy", "Sample", "Texts", "generate"]

Step = Callable[[Any, Array, Array], tuple[Array, Any, Any]]


class Texts(NamedTuple):
    """What was written.

    Attributes:
      tokens: (B, P + length) int32, every prompt with what was written behind it, then `pad_id`.
      lengths: (B,) int32, how many of them count: prompt, written words and the end if it was met.
      score: (B,) sum of the log-probabilities of the written words, the end included; under `Beam`
        divided by the number of written words to the power of its length penalty.
      observed: leaves (B, P + length, ...), what `step` observed when it read the token at that
        position, in the beam that won; zeros from the last token on, which is never read.
    """

    tokens: Any
    lengths: Any
    score: Any
    observed: Any


@renamed.arguments(end="eos_id", pad="pad_id", how="strategy")
def generate(
    step: Step,
    cache: Any,
    prompt: Any,
    *,
    length: int,
    eos_id: Any,
    pad_id: Any = 0,
    strategy: Greedy | Sample | Beam = GREEDY,
    key: Array | None = None,
    lengths: Any = None,
    logits: Hook | Sequence[Hook] = (),
) -> Texts:
    """Write behind a prompt, word by word, until every row has ended.

    One `while_loop`: call it under `jax.jit`, with `length`, `strategy` and `logits` static. The
    prompt is read in the same loop, one token at a time. What is the same at every step (a
    projected context) belongs into `step` itself; `cache` is only what grows with the text.

    Where a step gives no word a chance, all its logits being -inf, or gives one that is NaN or
    +inf, the text of that row ends before this word: `pad_id` stands there, and the score is -inf
    or NaN.

    Args:
      step: `step(cache, tokens (N,) int32, position () int32)` reads one token per row, which
        stands at this position of every row, and returns `(logits (N, V) of the next one, cache,
        observed)`; `observed` is any pytree with leaves (N, ...), or None. N = B * strategy.beams,
        the beams of a row being neighbours.
      cache: what `step` is first called with: leaves (L, N, ...), axis 0 being for example layers.
        Beams that change places take their rows along. A `KVCache`, anywhere in it, says how many
        tokens fit; of other caches nobody can tell.
      prompt: (B, P) integers, the first tokens of every row, at least one; an array or lists.
      length: how many words are written at most.
      eos_id: the word after which a row has ended, or several, or None.
      pad_id: what stands behind the end.
      strategy: `Greedy()`, `Sample(...)` or `Beam(...)`.
      key: random key, required by `Sample`. The word at position t is drawn with `fold_in(key, t)`,
        for all rows at once: it depends on neither the cache nor the length of the loop.
      lengths: (B,) how many tokens of each prompt count, 1 to P: a shorter one is written on behind
        these; None = P.
      logits: a hook or several, called in order on the logits of every step, see
        `crossattn.models.logits`: `SuppressTokens`, `ForceTokens`, `RepetitionPenalty`,
        `NoRepeatNGrams`, or a function of one's own.

    Returns:
      `Texts`; scores are in float32 (float64 for logits in float64). Prompts and lengths that are
      wrong, but are known only when the program runs, get a score of NaN.

    Raises:
      ValueError: an empty prompt, a `length` below 1, `Sample` without a key, a cache or logits
        that do not have N rows, a `KVCache` without room for all that is read; where they are
        known, tokens outside of the vocabulary and `lengths` outside of 1 to P.
      TypeError: what is no integer and has to be one.

    Example:
      >>> def count(cache, tokens, position):
      ...     return 9.0 * jax.nn.one_hot(tokens + 1, 7), cache, None
      >>> write = jax.jit(lambda prompt: generate(count, (), prompt, length=4, eos_id=(5, 6)))
      >>> texts = write(jnp.array([[1], [3]]))
      >>> texts.tokens.tolist(), texts.lengths.tolist()
      ([[1, 2, 3, 4, 5], [3, 4, 5, 0, 0]], [5, 3])
    """
    _check(strategy, key, logits)
    prompt, length, pad_id = prompt_of(prompt), integer("length", length), _pad(pad_id)
    (B, P), W = prompt.shape, strategy.beams
    lengths, ends = lengths_of(lengths, B, P), () if eos_id is None else tokens_of("eos_id", eos_id)
    if length < 1:
        raise ValueError(f"length is at least 1, got {length}: the number of words to write")
    check_cache(cache, B, W, P + length - 1)
    first = jnp.repeat(jnp.asarray(prompt[:, 0], jnp.int32), W)
    # Shapes of logits and observed only: a cache may hold nothing but arrays.
    shapes = jax.eval_shape(lambda: step(cache, first, jnp.zeros((), jnp.int32))[::2])
    if len(shapes[0].shape) != 2 or shapes[0].shape[0] != B * W:
        raise ValueError(
            f"step returned logits {shapes[0].shape}: they are (N, V), with N = {B * W}"
        )
    wrong = check_words(shapes[0].shape[1], ends, prompt, lengths)
    lengths = jnp.clip(jnp.asarray(lengths, jnp.int32), 1, P)
    step = _reading(step, strategy)
    if hooks := (logits,) if callable(logits) else tuple(logits):
        step, beside = edited(step, hooks, jnp.repeat(lengths, W), P + length)
        cache = beside(cache)
    writer = _Writer(step, strategy, lengths, length, ends, key)
    room = jnp.pad(jnp.asarray(prompt, jnp.int32), ((0, 0), (0, length)))
    start = writer.start(cache, room.T, shapes)
    loop = jax.lax.while_loop(lambda loop: jnp.any(loop.state.open), writer.turn, start)
    texts = _read_back(loop, pad_id)
    if wrong is None:
        return texts
    return texts._replace(score=jnp.where(wrong, jnp.nan, texts.score))


def _check(strategy, key, hooks):
    if not isinstance(strategy, OneText | Beam):
        raise TypeError(f"strategy is Greedy(), Sample(...) or Beam(...), got {strategy!r}")
    if isinstance(strategy, Sample) and key is None:
        raise ValueError("Sample needs a key: write key=jax.random.key(0)")
    if not callable(hooks) and not (
        isinstance(hooks, Sequence) and all(callable(hook) for hook in hooks)
    ):
        raise TypeError(f"logits takes a hook or several of them, got {hooks!r}")


def _reading(step, strategy):
    """The step with logits as the strategy reads them, at least in float32."""

    def read(cache, tokens, position):
        logits, cache, observed = step(cache, tokens, position)
        return strategy.read(logits.astype(precision(logits.dtype))), cache, observed

    return read


def _pad(pad_id):
    if (
        isinstance(pad_id, jax.Array)
        and pad_id.shape == ()
        and jnp.issubdtype(pad_id.dtype, jnp.integer)
    ):
        return pad_id.astype(jnp.int32)
    pad_id = integer("pad_id", pad_id)
    if not -(2**31) <= pad_id < 2**31:
        raise ValueError(f"pad_id is a number of 32 bits, got {pad_id}")
    return pad_id


class _Loop(NamedTuple):
    """What one turn hands to the next; T = P + length positions, W beams.

    Attributes:
      position: () position of the token to read.
      cache: the step's.
      words: (T, B, W), the word that each beam had when it stood there.
      parents: (T, B, W), the beam that it continued.
      observed: leaves (T, B * W, ...).
      state: the strategy's.
    """

    position: Any
    cache: Any
    words: Any
    parents: Any
    observed: Any
    state: Any


@dataclasses.dataclass(frozen=True)
class _Writer:
    """What does not change between turns."""

    step: Any
    strategy: Any
    lengths: Any
    length: int
    ends: Any
    key: Any

    def start(self, cache, prompt, shapes):
        """Before the first token is read; the prompt is (T, B), with room behind it."""
        T, B = prompt.shape
        words = jnp.broadcast_to(prompt[:, :, None], (T, B, self.strategy.beams))
        logits, observed = shapes
        room = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape), leaf.dtype), observed)
        state = self.strategy.start(B, precision(logits.dtype))
        position = jnp.zeros((), jnp.int32)
        return _Loop(position, cache, words, jnp.zeros_like(words), room, state)

    def turn(self, loop):
        """Read a token of every beam, write the next."""
        position, next_position = loop.position, loop.position + 1
        _, B, W = loop.words.shape
        logits, cache, seen = self.step(loop.cache, _at(loop.words, position).reshape(-1), position)
        count = next_position - self.lengths + 1
        turn = Turn(
            next_position,
            jnp.maximum(count, 1),
            count == self.length,
            self.ends,
            None if self.key is None else jax.random.fold_in(self.key, next_position),
        )
        state, words, parents = self.strategy.advance(loop.state, logits.reshape(B, W, -1), turn)
        # Until its prompt is read a row's beams are equal: no matter which one they continue.
        writes = count >= 1
        words = jnp.where(writes[:, None], words, _at(loop.words, next_position))
        return _Loop(
            next_position,
            cache if W == 1 else _taken(cache, parents),
            _put(loop.words, words, next_position),
            _put(loop.parents, parents, next_position),
            jax.tree.map(lambda room, leaf: _put(room, leaf, position), loop.observed, seen),
            _rows(writes & loop.state.open, state, loop.state),
        )


def _read_back(loop, pad_id):
    """From the last word of each row's best text to its first, through the beams it came from."""
    T, B, W = loop.words.shape
    ending = loop.state.best()
    positions = jnp.arange(T, dtype=jnp.int32)[:, None]
    read = positions < ending.position[None]

    def back(beam, at):
        parents, read = at
        return jnp.where(read, _beam(parents, beam), beam), beam

    _, beams = jax.lax.scan(back, ending.parent, (loop.parents, read), reverse=True)

    def kept(leaf):
        leaf = jax.vmap(_beam)(leaf.reshape(T, B, W, *leaf.shape[2:]), beams)
        leaf = jnp.where(read.reshape(T, B, *[1] * (leaf.ndim - 2)), leaf, jnp.zeros_like(leaf))
        return jnp.swapaxes(leaf, 0, 1)

    nothing = ending.word == NOTHING
    last = jnp.where(
        (positions == ending.position[None]) & ~nothing[None], ending.word[None], pad_id
    )
    tokens = jnp.where(read, jax.vmap(_beam)(loop.words, beams), last)
    observed = jax.tree.map(kept, loop.observed)
    # Of a text without a last word that before it has been read.
    lengths = jnp.where(nothing, ending.position, ending.position + 1)
    return Texts(tokens.T, lengths, ending.score, observed)


def _beam(leaf, beams):
    """Of leaf (B, W, ...) the beam (B,) of every row."""
    return jax.vmap(lambda leaf, beam: leaf.at[beam].get(mode="promise_in_bounds"))(leaf, beams)


def _taken(cache, parents):
    """The cache of beams that continue `parents` (B, W).

    Row by row, so that rows which lie on different devices stay there.
    """
    take = lambda rows, beams: rows.at[:, beams].get(mode="promise_in_bounds")

    def taken(leaf, axis):
        rows = leaf.reshape(-1, *parents.shape, *leaf.shape[axis + 1 :])
        return jax.vmap(take, in_axes=(1, 0), out_axes=1)(rows, parents).reshape(leaf.shape)

    def part(node):
        return jax.tree.map(lambda leaf: taken(leaf, rows_axis(node, leaf.ndim)), node)

    return jax.tree.map(part, cache, is_leaf=lambda node: isinstance(node, KVCache))


def _rows(chosen, new, old):
    """New leaves (B, ...) in the chosen rows, old ones in the others."""
    pick = lambda new, old: jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return jax.tree.map(pick, new, old)


def _at(leaf, position):
    return jax.lax.dynamic_index_in_dim(leaf, position, axis=0, keepdims=False)


def _put(leaf, new, position):
    return jax.lax.dynamic_update_index_in_dim(leaf, new, position, axis=0)
