"""Texts word by word from any decoder: greedy, sampled or by beam search, in one compiled loop."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.beam import Beam
from crossattn.models.sampling import GREEDY, Greedy, Sample, Turn
from crossattn.ops.reference import precision
from crossattn.shapes import Array, Int

__all__ = ["Beam", "Greedy", "Sample", "Texts", "generate"]

Step = Callable[[Any, Array, Array], tuple[Array, Any, Any]]


class Texts(NamedTuple):
    """What was written.

    Attributes:
      tokens: (B, P + length) int32, every prompt with what was written behind it, then `pad`.
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


def generate(
    step: Step,
    cache: Any,
    prompt: Int[Array, "B P"],
    *,
    length: int,
    end: int | None,
    pad: int = 0,
    how: Greedy | Sample | Beam = GREEDY,
    key: Array | None = None,
    lengths: Int[Array, " B"] | None = None,
) -> Texts:
    """Write behind a prompt, word by word, until every row has ended.

    One `while_loop`: call it under `jax.jit`, with `length`, `end`, `pad` and `how` static. The
    prompt is read in the same loop, one token at a time. What is the same at every step (a
    projected context) belongs into `step` itself; `cache` is only what grows with the text.

    Args:
      step: `step(cache, tokens (N,) int32, place () int32)` reads one token per row, which stands
        at position `place` of every row, and returns `(logits (N, V) of the next one, cache,
        observed)`; `observed` is any pytree with leaves (N, ...), or None. N = B * how.beams, the
        beams of a row being neighbours.
      cache: what `step` is first called with: leaves (L, N, ...), axis 0 being for example layers.
        Beams that change places take their rows along.
      prompt: the first tokens of every row, at least one.
      length: how many words are written at most.
      end: the word after which a row has ended, or None.
      pad: what stands behind the end.
      how: `Greedy()`, `Sample(...)` or `Beam(...)`.
      key: random key, required by `Sample`. The word at position t is drawn with `fold_in(key, t)`,
        for all rows at once: it depends on neither the cache nor the length of the loop.
      lengths: how many tokens of each prompt count, 1 to P: a shorter one is written on behind
        these; None = P.

    Returns:
      `Texts`; scores are in float32 (float64 for logits in float64).

    Raises:
      ValueError: an empty prompt, a `length` below 1, `Sample` without a key, a cache or logits
        that do not have N rows.

    Example:
      >>> def count(cache, tokens, place):
      ...     return 9.0 * jax.nn.one_hot(tokens + 1, 7), cache, None
      >>> write = jax.jit(lambda prompt: generate(count, (), prompt, length=4, end=5))
      >>> texts = write(jnp.array([[1], [3]]))
      >>> texts.tokens.tolist(), texts.lengths.tolist()
      ([[1, 2, 3, 4, 5], [3, 4, 5, 0, 0]], [5, 3])
    """
    B, P = prompt.shape
    _check(cache, (B, P), length, how, key)
    if lengths is None:
        lengths = jnp.full(B, P)
    room = jnp.pad(prompt.astype(jnp.int32), ((0, 0), (0, length)))
    writer = _Writer(step, how, lengths.astype(jnp.int32), length, end, key)
    start = writer.start(cache, room.T)
    loop = jax.lax.while_loop(lambda loop: jnp.any(loop.state.open), writer.turn, start)
    return _read_back(loop, pad)


def _check(cache, shape, length, how, key):
    B, P = shape
    if P < 1:
        raise ValueError(
            "the prompt is empty: give every row at least the token that starts a text"
        )
    if length < 1:
        raise ValueError(f"length is at least 1, got {length}: the number of words to write")
    if isinstance(how, Sample) and key is None:
        raise ValueError("Sample needs a key: write key=jax.random.key(0)")
    N = B * how.beams
    for path, leaf in jax.tree_util.tree_leaves_with_path(cache):
        if jnp.ndim(leaf) < 2 or leaf.shape[1] != N:
            raise ValueError(
                f"cache{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}: "
                f"make it with {N} rows ({B} texts of {how.beams} beams) at axis 1"
            )


class _Loop(NamedTuple):
    """What one turn hands to the next; T = P + length positions, W beams.

    Attributes:
      place: () position of the token to read.
      cache: the step's.
      words: (T, B, W), the word that each beam had when it stood there.
      parents: (T, B, W), the beam that it continued.
      observed: leaves (T, B * W, ...).
      state: the strategy's.
    """

    place: Any
    cache: Any
    words: Any
    parents: Any
    observed: Any
    state: Any


@dataclasses.dataclass(frozen=True)
class _Writer:
    """What does not change between turns."""

    step: Any
    how: Any
    lengths: Any
    length: int
    end: int | None
    key: Any

    def start(self, cache, prompt):
        """Before the first token is read; the prompt is (T, B), with room behind it."""
        T, B = prompt.shape
        words = jnp.broadcast_to(prompt[:, :, None], (T, B, self.how.beams))
        place = jnp.zeros((), jnp.int32)
        # Shapes of logits and observed only: a cache may hold nothing but arrays.
        read = lambda: self.step(cache, words[0].reshape(-1), place)[::2]
        logits, observed = jax.eval_shape(read)
        N = B * self.how.beams
        if len(logits.shape) != 2 or logits.shape[0] != N:
            raise ValueError(f"step returned logits {logits.shape}: they are (N, V), with N = {N}")
        room = jax.tree.map(lambda leaf: jnp.zeros((T, *leaf.shape), leaf.dtype), observed)
        state = self.how.start(B, precision(logits.dtype))
        return _Loop(place, cache, words, jnp.zeros_like(words), room, state)

    def turn(self, loop):
        """Read a token of every beam, write the next."""
        place, next_place = loop.place, loop.place + 1
        _, B, W = loop.words.shape
        logits, cache, seen = self.step(loop.cache, _at(loop.words, place).reshape(-1), place)
        count = next_place - self.lengths + 1
        turn = Turn(
            next_place,
            jnp.maximum(count, 1),
            count == self.length,
            self.end,
            None if self.key is None else jax.random.fold_in(self.key, next_place),
        )
        logits = logits.astype(precision(logits.dtype)).reshape(B, W, -1)
        state, words, parents = self.how.advance(loop.state, logits, turn)
        # Until its prompt is read a row's beams are equal: no matter which one they continue.
        writes = count >= 1
        words = jnp.where(writes[:, None], words, _at(loop.words, next_place))
        return _Loop(
            next_place,
            cache if W == 1 else jax.tree.map(lambda leaf: _taken(leaf, parents), cache),
            _put(loop.words, words, next_place),
            _put(loop.parents, parents, next_place),
            jax.tree.map(lambda room, leaf: _put(room, leaf, place), loop.observed, seen),
            _rows(writes & loop.state.open, state, loop.state),
        )


def _read_back(loop, pad):
    """From the last word of each row's best text to its first, through the beams it came from."""
    T, B, W = loop.words.shape
    ending = loop.state.best()
    places = jnp.arange(T, dtype=jnp.int32)[:, None]
    read = places < ending.place[None]

    def back(beam, at):
        parents, read = at
        return jnp.where(read, _beam(parents, beam), beam), beam

    _, beams = jax.lax.scan(back, ending.parent, (loop.parents, read), reverse=True)

    def kept(leaf):
        leaf = jax.vmap(_beam)(leaf.reshape(T, B, W, *leaf.shape[2:]), beams)
        leaf = jnp.where(read.reshape(T, B, *[1] * (leaf.ndim - 2)), leaf, jnp.zeros_like(leaf))
        return jnp.swapaxes(leaf, 0, 1)

    last = jnp.where(places == ending.place[None], ending.word[None], pad)
    tokens = jnp.where(read, jax.vmap(_beam)(loop.words, beams), last)
    observed = jax.tree.map(kept, loop.observed)
    return Texts(tokens.T, ending.place + 1, ending.score, observed)


def _beam(leaf, beams):
    """Of leaf (B, W, ...) the beam (B,) of every row."""
    return jax.vmap(lambda leaf, beam: leaf.at[beam].get(mode="promise_in_bounds"))(leaf, beams)


def _taken(leaf, parents):
    """A cache leaf (L, B * W, ...) whose beams continue `parents` (B, W).

    Row by row, so that rows which lie on different devices stay there.
    """
    rows = leaf.reshape(leaf.shape[0], *parents.shape, *leaf.shape[2:])
    take = lambda rows, beams: rows.at[:, beams].get(mode="promise_in_bounds")
    return jax.vmap(take, in_axes=(1, 0), out_axes=1)(rows, parents).reshape(leaf.shape)


def _rows(chosen, new, old):
    """New leaves (B, ...) in the chosen rows, old ones in the others."""
    pick = lambda new, old: jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return jax.tree.map(pick, new, old)


def _at(leaf, place):
    return jax.lax.dynamic_index_in_dim(leaf, place, axis=0, keepdims=False)


def _put(leaf, new, place):
    return jax.lax.dynamic_update_index_in_dim(leaf, new, place, axis=0)
