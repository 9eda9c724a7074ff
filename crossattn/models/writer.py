"""The loop that writes: what one turn hands to the next, and how texts are read back from it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.arguments import rows_axis
from crossattn.models.sampling import NOTHING, Turn
from crossattn.nn.cache import KVCache
from crossattn.ops.reference import precision

__all__ = ["Loop", "Writer", "first_of_each", "read_back", "repeated_for"]


class Loop(NamedTuple):
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
class Writer:
    """What does not change between turns."""

    step: Any
    strategy: Any
    lengths: Any
    length: int
    ends: Any
    key: Any

    def start(self, cache, prompt, observed, position, dtype):
        """Before the token at `position` is read; the prompt is (T, B), with room behind it."""
        T, B = prompt.shape
        words = jnp.broadcast_to(prompt[:, :, None], (T, B, self.strategy.beams))
        state = self.strategy.start(B, precision(dtype))
        return Loop(position, cache, words, jnp.zeros_like(words), observed, state)

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
        return Loop(
            next_position,
            cache if W == 1 else _taken(cache, parents),
            _put(loop.words, words, next_position),
            _put(loop.parents, parents, next_position),
            jax.tree.map(lambda room, leaf: _put(room, leaf, position), loop.observed, seen),
            _rows(writes & loop.state.open, state, loop.state),
        )


def read_back(loop, pad_id):
    """Tokens, lengths, score and what was observed.

    From the last word of each row's best text to its first, through the beams it came from.
    """
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
    return tokens.T, lengths, ending.score, observed


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

    return _by_rows(taken, cache)


def first_of_each(cache, W):
    """Of W beams that are still equal the first one's cache."""

    def first(leaf, axis):
        rows = leaf.reshape(*leaf.shape[:axis], -1, W, *leaf.shape[axis + 1 :])
        return jax.lax.index_in_dim(rows, 0, axis + 1, keepdims=False)

    return _by_rows(first, cache)


def repeated_for(cache, W):
    """The cache of W equal beams of each row."""
    return _by_rows(lambda leaf, axis: jnp.repeat(leaf, W, axis=axis), cache)


def _by_rows(change, cache):
    """`change(leaf, axis)` of every leaf, whose rows lie on this axis."""

    def part(node):
        return jax.tree.map(lambda leaf: change(leaf, rows_axis(node, leaf.ndim)), node)

    return jax.tree.map(part, cache, is_leaf=lambda node: isinstance(node, KVCache))


def _rows(chosen, new, old):
    """New leaves (B, ...) in the chosen rows, old ones in the others."""
    pick = lambda new, old: jnp.where(chosen.reshape(-1, *[1] * (new.ndim - 1)), new, old)
    return jax.tree.map(pick, new, old)


def _at(leaf, position):
    return jax.lax.dynamic_index_in_dim(leaf, position, axis=0, keepdims=False)


def _put(leaf, new, position):
    return jax.lax.dynamic_update_index_in_dim(leaf, new, position, axis=0)
