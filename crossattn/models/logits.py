"""Hooks that change the logits before a word is chosen: suppressed, forced and repeated words.

A hook is called as `hook(logits, text)` with logits (N, V) in float32 and a `Text`, and returns
logits (N, V). Under `Greedy` and `Sample` it is given the logits of the step, under `Beam` their
log-probabilities, which are not made to sum to 1 again, as in transformers. -inf is a word that
cannot be written.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from crossattn.models.arguments import integer, real, tokens_of
from crossattn.shapes import Array, Bool, Float, Int

__all__ = [
    "ForceTokens",
    "Hook",
    "NoRepeatNGrams",
    "RepetitionPenalty",
    "SuppressTokens",
    "Text",
    "edited",
]


class Text(NamedTuple):
    """What a hook is told.

    Attributes:
      tokens: (N, T) int32, prompt and written words of every text, the beams of a row being
        neighbours; -1 where nothing stands yet.
      position: () position of the word that is chosen now: how many tokens there are.
      count: (N,) number of that word behind the prompt, the first being 1; below 1 as long as the
        prompt is read, when what a hook returns is not used.
      lengths: (N,) tokens of the prompts.
    """

    tokens: Any
    position: Any
    count: Any
    lengths: Any


Hook = Callable[[Array, Text], Array]


@dataclasses.dataclass(frozen=True)
class SuppressTokens:
    """Words that are never written, or not at one place.

    (`SuppressTokensLogitsProcessor`, and with `at=1` `SuppressTokensAtBeginLogitsProcessor` of
    transformers.)

    Attributes:
      tokens: a token or several.
      at: number of the written word, the first being 1; None: always.

    >>> text = Text(jnp.array([[2, -1]]), jnp.int32(1), jnp.array([1]), jnp.array([1]))
    >>> SuppressTokens(0)(jnp.zeros((1, 3)), text).tolist()
    [[-inf, 0.0, 0.0]]
    """

    tokens: Any
    at: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "tokens", tokens_of("SuppressTokens", self.tokens))
        if self.at is not None:
            _written("SuppressTokens.at", self.at)

    def __call__(self, logits: Float[Array, "N V"], text: Text) -> Float[Array, "N V"]:
        """The logits, -inf for these words."""
        gone = _those("SuppressTokens", self.tokens, logits.shape[-1])[None]
        if self.at is not None:
            gone &= (text.count == self.at)[:, None]
        return jnp.where(gone, -jnp.inf, logits)


@dataclasses.dataclass(frozen=True)
class ForceTokens:
    """Words that have to stand at some places.

    (`ForcedBOSTokenLogitsProcessor` forces the word 1 behind a prompt of one token,
    `ForcedEOSTokenLogitsProcessor` the word `length`; Whisper's language and task are forced ids.)

    Attributes:
      tokens: {number of the written word: token, or several of which one is written}; 1 is the
        first word behind the prompt.

    >>> text = Text(jnp.array([[2, -1]]), jnp.int32(1), jnp.array([1]), jnp.array([1]))
    >>> ForceTokens({1: 2})(jnp.ones((1, 3)), text).tolist()
    [[-inf, -inf, 0.0]]
    """

    tokens: Any

    def __post_init__(self):
        try:
            pairs = tuple(dict(self.tokens).items())
        except (TypeError, ValueError):
            raise TypeError(f"ForceTokens takes {{number: token}}, got {self.tokens!r}") from None
        for at, _ in pairs:
            _written("ForceTokens, a number", at)
        forced = tuple((at, tokens_of("ForceTokens", words)) for at, words in pairs)
        object.__setattr__(self, "tokens", forced)

    def __call__(self, logits: Float[Array, "N V"], text: Text) -> Float[Array, "N V"]:
        """The logits; where a word is forced 0 for it and -inf for the others."""
        for at, words in self.tokens:
            forced = jnp.where(_those("ForceTokens", words, logits.shape[-1]), 0.0, -jnp.inf)
            forced = forced.astype(logits.dtype)[None]
            logits = jnp.where((text.count == at)[:, None], forced, logits)
        return logits


@dataclasses.dataclass(frozen=True)
class RepetitionPenalty:
    """Logits of the words of prompt and text are divided by it, those below 0 multiplied.

    (Keskar et al. 2019, "CTRL"; `RepetitionPenaltyLogitsProcessor` of transformers.)

    Attributes:
      penalty: above 1 words are repeated less.

    >>> text = Text(jnp.array([[2, 0, -1]]), jnp.int32(2), jnp.array([2]), jnp.array([1]))
    >>> RepetitionPenalty(2.0)(jnp.array([[1.0, 1.0, -1.0]]), text).tolist()
    [[0.5, 1.0, -2.0]]
    """

    penalty: float

    def __post_init__(self):
        object.__setattr__(self, "penalty", real("RepetitionPenalty.penalty", self.penalty))
        if self.penalty <= 0:
            raise ValueError(f"RepetitionPenalty.penalty is above 0, got {self.penalty}")

    def __call__(self, logits: Float[Array, "N V"], text: Text) -> Float[Array, "N V"]:
        """The logits, lower where a word has been."""
        been = _marked(text.tokens, text.tokens >= 0, logits.shape[-1])
        lower = jnp.where(logits < 0, logits * self.penalty, logits / self.penalty)
        return jnp.where(been, lower, logits)


@dataclasses.dataclass(frozen=True)
class NoRepeatNGrams:
    """No `size` words in a row stand twice in prompt and text.

    (`NoRepeatNGramLogitsProcessor` of transformers.)

    Attributes:
      size: n; 1 forbids every word that has been.

    >>> text = Text(jnp.array([[2, 0, 2, -1]]), jnp.int32(3), jnp.array([3]), jnp.array([1]))
    >>> NoRepeatNGrams(2)(jnp.zeros((1, 3)), text).tolist()
    [[-inf, 0.0, 0.0]]
    """

    size: int

    def __post_init__(self):
        if integer("NoRepeatNGrams.size", self.size) < 1:
            raise ValueError(f"NoRepeatNGrams.size is at least 1, got {self.size}")

    def __call__(self, logits: Float[Array, "N V"], text: Text) -> Float[Array, "N V"]:
        """The logits, -inf for what would end such words again."""
        before, (N, T) = self.size - 1, text.tokens.shape
        if before >= T:
            return logits
        starts = T - before
        # The last n - 1 words, and where they have been with a word behind them.
        last = jax.lax.dynamic_slice(text.tokens, (0, text.position - before), (N, before))
        again = jnp.ones((N, starts), bool)
        for n in range(before):
            again &= text.tokens[:, n : n + starts] == last[:, n : n + 1]
        again &= (jnp.arange(before, T) < text.position)[None]
        gone = _marked(text.tokens[:, before:], again, logits.shape[-1])
        return jnp.where(gone, -jnp.inf, logits)


def edited(
    read: Callable[..., Any], hooks: Sequence[Hook], lengths: Int[Array, " N"]
) -> Callable[..., Any]:
    """A step whose logits go through hooks: the texts so far lie beside its cache.

    Args:
      read: step that returns what the hooks change.
      hooks: called in this order.
      lengths: of the prompts, for each of N texts.

    Returns:
      The step. Its cache is that of `read` and the texts (1, N, T), as far as they are read before
      the step, behind that -1.
    """

    def step(cache, tokens, position):
        cache, texts = cache
        texts = jax.lax.dynamic_update_slice(texts, tokens[None, :, None], (0, 0, position))
        logits, cache, observed = read(cache, tokens, position)
        text = Text(texts[0], position + 1, position + 2 - lengths, lengths)
        for hook in hooks:
            new = hook(logits, text)
            if not hasattr(new, "dtype") or not jnp.issubdtype(new.dtype, jnp.floating):
                raise TypeError(
                    "a hook of the logits returns logits (N, V), floats as it was given"
                )
            if jnp.shape(new) != logits.shape:
                raise ValueError(
                    f"a hook of the logits returned {jnp.shape(new)}, it was given {logits.shape}"
                )
            logits = new.astype(logits.dtype)
        return logits, (cache, texts), observed

    return step


def _written(what: str, number: Any) -> None:
    if integer(what, number) < 1:
        raise ValueError(f"{what} is at least 1, the first word behind the prompt, got {number}")


def _those(what: str, tokens: tuple[int, ...], V: int) -> Bool[Array, " V"]:
    """Which words of the vocabulary these are."""
    if wrong := [n for n in tokens if isinstance(n, int) and not 0 <= n < V]:
        raise ValueError(f"{what}: token {wrong[0]} is outside of the vocabulary, 0 to {V - 1}")
    return jnp.zeros(V, bool).at[jnp.array(tokens, jnp.int32)].set(True)


def _marked(tokens: Int[Array, "N T"], which: Bool[Array, "N T"], V: int) -> Bool[Array, "N V"]:
    """Which words stand where `which` says so."""
    mark = lambda row: jnp.zeros(V, bool).at[row].set(True, mode="drop")
    return jax.vmap(mark)(jnp.where(which, tokens, V))
