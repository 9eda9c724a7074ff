"""Whisper's time stamps: by which rules they are written, and what they divide (Radford et al.
2022, section 4.5, as openai/whisper has it in `ApplyTimestampRules` and `transcribe`)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from crossattn.models.logits import Text
from crossattn.shapes import Array, Float

__all__ = ["SECONDS_PER_STAMP", "TimestampRules", "divided"]

SECONDS_PER_STAMP = 0.02
# The first stamp is that of the first second.
LATEST_START = 50


@dataclasses.dataclass(frozen=True)
class TimestampRules:
    """A hook of `crossattn.models.generate`: a text is written with its time stamps.

    It begins with one; they stand in pairs, but at the end; none is before the one that stands last
    (and none ends where it began); where all of them together are likelier than any word, one is
    written. What is left are log-probabilities: those of a beam sum to 1.

    Attributes:
      plain: token after which there are no time stamps; those behind it are the time stamps.
      end: token of the end; those before it are words.

    >>> rules, nothing = TimestampRules(plain=4, end=3), jnp.zeros((1, 8))
    >>> text = Text(jnp.array([[4, 5, -1, -1]]), jnp.int32(2), jnp.array([2]), jnp.array([1]))
    >>> (rules(nothing, text) > -jnp.inf).tolist()  # behind one stamp stands a word, or the end
    [[True, True, True, True, False, False, False, False]]
    """

    plain: int
    end: int

    def __call__(self, logits: Float[Array, "N V"], text: Text) -> Float[Array, "N V"]:
        """Log-probabilities, -inf of what cannot be written now."""
        first, place = self.plain + 1, jnp.arange(text.tokens.shape[1])[None]
        stamps = (place >= text.lengths[:, None]) & (text.tokens >= first)
        at = lambda back: jnp.take(stamps, text.position - back, axis=1, mode="clip")[:, None]
        last, before = at(1), at(2) | (text.count <= 2)[:, None]
        latest = jnp.where(stamps, text.tokens, self.plain).max(axis=1, keepdims=True)
        least = jnp.where(last & ~before, latest, latest + 1)
        token = jnp.arange(logits.shape[1])[None]
        stamp = token >= first
        gone = (token == self.plain) | (stamp & (token < least))
        gone |= last & jnp.where(before, stamp, token < self.end)
        gone |= (text.count == 1)[:, None] & (~stamp | (token > first + LATEST_START))
        logits = jnp.where(gone, -jnp.inf, logits)
        likely = jax.nn.logsumexp(logits, axis=1, keepdims=True, where=stamp)
        best = logits.max(axis=1, keepdims=True, where=~stamp, initial=-jnp.inf)
        return jax.nn.log_softmax(jnp.where(~stamp & (likely > best), -jnp.inf, logits))


def divided(
    tokens: Sequence[int], plain: int, seconds: float
) -> tuple[list[tuple[float, float, list[int]]], float]:
    """The parts of a text between its time stamps, and from where the sound is read on.

    Args:
      tokens: that were written about a window.
      plain: as of `TimestampRules`.
      seconds: how long the window is.

    Returns:
      (start, end, tokens) of each part, in seconds of the window, and how much of the window is
      done: up to the last pair of stamps, behind which a sentence was cut; else all of it.

    >>> divided([5, 0, 1, 8, 8, 2], plain=4, seconds=30.0)
    ([(0.0, 0.06, [5, 0, 1, 8])], 0.06)
    >>> divided([5, 0, 1, 8], plain=4, seconds=30.0)
    ([(0.0, 0.06, [5, 0, 1, 8])], 30.0)
    """
    time = lambda token: round((token - plain - 1) * SECONDS_PER_STAMP, 2)
    stamps = [token > plain for token in tokens]
    edges = [n for n in range(1, len(tokens)) if stamps[n - 1] and stamps[n]]
    done = seconds
    if not edges:
        found = [time(token) for token, stamp in zip(tokens, stamps, strict=True) if stamp]
        return [(0.0, found[-1] if found and found[-1] else seconds, list(tokens))], done
    if stamps[-2:] == [False, True]:
        edges.append(len(tokens))
    else:
        done = time(tokens[edges[-1] - 1])
    parts = [list(tokens[a:b]) for a, b in zip([0, *edges], edges, strict=False)]
    return [(time(part[0]), time(part[-1]), part) for part in parts], done
