"""Beam search: several texts per row at once, of which the best is kept."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.arguments import integer, real
from crossattn.models.sampling import NOTHING, Ending, Turn
from crossattn.shapes import Array, Float, Int


class Beams(NamedTuple):
    """Texts that still grow, and texts that have ended.

    Attributes:
      open: (B,) whether a text that grows may still become better than one that has ended.
      score: (B, W) sums of log-probabilities of the texts that grow, the best first.
      ended: leaves (B, W), the best first; a score of -inf where fewer have ended.
    """

    open: Any
    score: Any
    ended: Ending

    def best(self) -> Ending:
        """The best text of every row that has ended."""
        return jax.tree.map(lambda leaf: leaf[:, 0], self.ended)


@dataclasses.dataclass(frozen=True)
class Beam:
    """The best of several texts that grow side by side.

    The rules are those of transformers with `early_stopping=False`: of the (1 + E) * width best
    continuations under E end tokens, at least 2 * width, those among the first `width` that end are
    set apart with the score
    log-probability / n ** length_penalty, n being the number of words written, the end included and
    the prompt not; the best `width` of the others grow on. A row is done when the best of these, at
    its present length, is no better than the worst of `width` texts set apart. Without a length
    penalty no better text of the beam can follow; with one it may, since the score of a text that
    grows can rise. (Length normalisation: Wu et al. 2016, "Google's neural machine translation
    system", section 7, here without its offset.)

    Attributes:
      width: W, number of texts per row; the step is called with B * W rows.
      length_penalty: above 0 favours longer texts, 0 is the bare sum.
      early_stopping: a row is done as soon as `width` texts are set apart.
      count_end: whether the end is one of the n words. With both changed the rules are those of
        Whisper, as OpenAI and CTranslate2 have them.

    >>> Beam(width=0)
    Traceback (most recent call last):
    ...
    ValueError: Beam.width is at least 1, got 0: for the most likely word write Greedy()
    """

    width: int = 4
    length_penalty: float = 1.0
    early_stopping: bool = False
    count_end: bool = True

    def __post_init__(self):
        object.__setattr__(self, "width", integer("Beam.width", self.width))
        penalty = real("Beam.length_penalty", self.length_penalty)
        object.__setattr__(self, "length_penalty", penalty)
        if self.width < 1:
            raise ValueError(
                f"Beam.width is at least 1, got {self.width}: "
                "for the most likely word write Greedy()"
            )

    @property
    def beams(self) -> int:
        """How many texts a row has."""
        return self.width

    def read(self, logits: Float[Array, "N V"]) -> Float[Array, "N V"]:
        """What hooks change: the log-probabilities; -inf where no word is possible."""
        some = logits.max(axis=-1, keepdims=True) != -jnp.inf
        return jnp.where(some, jax.nn.log_softmax(logits), -jnp.inf)

    def start(self, rows: int, dtype: Any) -> Beams:
        """All beams hold the same prompt: only the first counts, else all would stay the same."""
        score = jnp.full((rows, self.width), -jnp.inf, dtype)
        none = jnp.zeros((rows, self.width), jnp.int32)
        first = score.at[:, 0].set(0)
        return Beams(jnp.ones(rows, bool), first, Ending(score, none, none, none))

    def advance(
        self, state: Beams, gains: Float[Array, "B W V"], turn: Turn
    ) -> tuple[Beams, Int[Array, "B W"], Int[Array, "B W"]]:
        """The texts that grow on: their next words, and the beams whose texts they continue.

        `gains` are log-probabilities, by `read`.
        """
        B, W, V = gains.shape
        possible = jnp.where(gains < jnp.inf, gains, -jnp.inf)
        total = (state.score[:, :, None] + possible).reshape(B, W * V)
        # A beam has one end of each kind: at least W of so many do not end.
        most = min(max(2, 1 + len(turn.ends)) * W, W * V)
        score, at = jax.lax.top_k(total, most)
        words, parents = at % V, at // V
        closes = turn.closes(words)
        count = turn.count.astype(score.dtype)[:, None]
        longer = count**self.length_penalty
        length = longer
        if not self.count_end:
            without = count - turn.ends_with(words).astype(count.dtype)
            length = jnp.maximum(without, 1) ** self.length_penalty
        counts = closes & (jnp.arange(most) < W)[None]
        position = jnp.full_like(words, turn.position)
        new = Ending(jnp.where(counts, score / length, -jnp.inf), position, words, parents)
        both = jax.tree.map(lambda *two: jnp.concatenate(two, axis=1), state.ended, new)
        ended = _picked(both, jax.lax.top_k(both.score, W)[1])
        score, chosen = jax.lax.top_k(jnp.where(closes, -jnp.inf, score), W)
        if self.early_stopping:
            better = ended.score[:, -1] == -jnp.inf
        else:
            better = score[:, 0] / longer[:, 0] > ended.score[:, -1]
        # A beam that is in the race and says nothing ends the row, as does no word at all.
        broken = (~(gains.max(axis=-1) < jnp.inf) & (state.score > -jnp.inf)).any(axis=1)
        neither = ~better & (ended.score[:, 0] == -jnp.inf)
        ended = _left(ended, broken, neither, turn.position)
        return Beams(better & ~broken, score, ended), *_picked((words, parents), chosen)


def _left(ended: Ending, broken: Array, neither: Array, position: Array) -> Ending:
    """The texts set apart; in rows that say nothing the best that grew, without a word more."""
    score = jnp.where(broken, jnp.nan, -jnp.inf).astype(ended.score.dtype)
    pick = lambda none, some: jnp.where((broken | neither)[:, None], none, some)
    return Ending(
        pick(score[:, None], ended.score),
        pick(position, ended.position),
        pick(NOTHING, ended.word),
        pick(0, ended.parent),
    )


def _picked(tree, chosen):
    """The entries (B, C) of leaves (B, N)."""
    return jax.tree.map(lambda leaf: jnp.take_along_axis(leaf, chosen, axis=1), tree)
