"""How the next word of one text per row is chosen: the most likely one, or one drawn."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.arguments import integer, real
from crossattn.shapes import Array, Bool, Float, Int

# In place of a word: none can be written.
NOTHING = -1


class Turn(NamedTuple):
    """What a strategy is told about the word that it chooses now.

    Attributes:
      position: () position of the word in the text.
      count: (B,) how many words behind the prompt there are with it, at least 1.
      final: (B,) whether it is the last that may be written.
      ends: the words that end a text.
      key: a random key of this turn, or None.
    """

    position: Any
    count: Any
    final: Any
    ends: Any
    key: Any

    def closes(self, words: Int[Array, "B C"]) -> Bool[Array, "B C"]:
        """Which of these words would end their text."""
        return self.final[:, None] | self.ends_with(words)

    def ends_with(self, words: Int[Array, "B C"]) -> Bool[Array, "B C"]:
        """Which of these words are ends."""
        found = jnp.zeros(words.shape, bool)
        for end in self.ends:
            found |= words == end
        return found


class Ending(NamedTuple):
    """The last word of a text: from here its other words are found again.

    Attributes:
      score: of the whole text.
      position: position of the last word.
      word: the last word, or `NOTHING`: the text ends before this position.
      parent: the beam in which the words before it stand.
    """

    score: Any
    position: Any
    word: Any
    parent: Any


class One(NamedTuple):
    """One text per row: whether it still grows, and its last word so far, leaves (B,)."""

    open: Any
    ending: Ending

    def best(self) -> Ending:
        """The text of every row."""
        return self.ending


class OneText:
    """What the strategies with one text per row share; they differ in `choose`."""

    beams = 1

    def read(self, logits: Float[Array, "N V"]) -> Float[Array, "N V"]:
        """What hooks change: the logits themselves."""
        return logits

    def start(self, rows: int, dtype: Any) -> One:
        """Nothing is written yet."""
        none = jnp.zeros(rows, jnp.int32)
        return One(jnp.ones(rows, bool), Ending(jnp.zeros(rows, dtype), none, none, none))

    def advance(
        self, state: One, logits: Float[Array, "B 1 V"], turn: Turn
    ) -> tuple[One, Int[Array, "B 1"], Int[Array, "B 1"]]:
        """The next word of every row; the score is the model's, whatever it was drawn from.

        A text to which no word can be added ends here.
        """
        logits = logits[:, 0]
        words = self.choose(logits, turn.key).astype(jnp.int32)[:, None]
        gain = jnp.take_along_axis(jax.nn.log_softmax(logits), words, axis=1)[:, 0]
        most = logits.max(axis=-1)
        broken, writes = ~(most < jnp.inf), (most > -jnp.inf) & (most < jnp.inf)
        gain = jnp.where(writes, gain, jnp.where(broken, jnp.nan, -jnp.inf))
        before = state.ending
        ending = Ending(
            before.score + gain,
            jnp.full_like(before.position, turn.position),
            jnp.where(writes, words[:, 0], NOTHING),
            before.parent,
        )
        return One(writes & ~turn.closes(words)[:, 0], ending), words, jnp.zeros_like(words)

    def choose(self, logits: Float[Array, "B V"], key: Array | None) -> Int[Array, " B"]:
        """The next words."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Greedy(OneText):
    """Always the most likely word; of equal ones the first.

    >>> Greedy().choose(jnp.array([[0.0, 2.0, 1.0]]), None).tolist()
    [1]
    """

    def choose(self, logits: Float[Array, "B V"], key: Array | None) -> Int[Array, " B"]:
        """The most likely words; no key is needed."""
        return jnp.argmax(logits, axis=-1)


GREEDY = Greedy()


@dataclasses.dataclass(frozen=True)
class Sample(OneText):
    """Words are drawn; what is unlikely can be left out first.

    The order is that of transformers: temperature, then `top_k`, then `top_p` (Holtzman et al.
    2020, "The curious case of neural text degeneration") of what `top_k` has left.

    Attributes:
      temperature: logits are divided by it; below 1 the likely words become likelier.
      top_k: only this many of the likeliest words, and what equals the last of them; None = all.
      top_p: only the smallest set of the likeliest words whose probabilities sum to this or more,
        at least one word; None = all.

    >>> Sample(top_k=2).kept(jnp.array([[1.0, 3.0, 2.0]])).tolist()
    [[-inf, 3.0, 2.0]]
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self):
        for name, kind in (("temperature", real), ("top_k", integer), ("top_p", real)):
            value = getattr(self, name)
            if value is not None or name == "temperature":
                object.__setattr__(self, name, kind(f"Sample.{name}", value))
        # What is smaller is 0 in float32.
        if self.temperature < jnp.finfo(jnp.float32).tiny:
            raise ValueError(
                f"Sample.temperature is above 0, got {self.temperature}: "
                "for the most likely word write Greedy()"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"Sample.top_k is at least 1, got {self.top_k}: for all words None")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(
                f"Sample.top_p is above 0 and at most 1, got {self.top_p}: for all words None"
            )

    def choose(self, logits: Float[Array, "B V"], key: Array | None) -> Int[Array, " B"]:
        """Words drawn with this key."""
        assert key is not None  # `generate` asked for it
        return jax.random.categorical(key, self.kept(logits), axis=-1)

    def kept(self, logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
        """The logits that words are drawn from: tempered, and -inf where a word is left out."""
        logits = logits / self.temperature
        if self.top_k is not None:
            least = jax.lax.top_k(logits, min(self.top_k, logits.shape[-1]))[0][:, -1:]
            logits = jnp.where(logits < least, -jnp.inf, logits)
        # The sum of all probabilities can round to less than 1, or to 1 before the last word.
        if self.top_p is not None and self.top_p < 1:
            order = jnp.argsort(logits, axis=-1, descending=True)
            likely = jax.nn.softmax(jnp.take_along_axis(logits, order, axis=-1))
            # A word stays if those before it are not enough; the first one always does.
            before = jnp.cumsum(likely, axis=-1) - likely
            enough = jnp.take_along_axis(before >= self.top_p, jnp.argsort(order, axis=-1), axis=-1)
            logits = jnp.where(enough, -jnp.inf, logits)
        return logits
