"""Which heads of a model of speech listen to the word that it writes, by one recording."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn.align.alignment_heads import (
    HeadScores,
    find_alignment_heads,
    head_knockouts,
    knockout_scores,
)
from crossattn.align.tokens_in_time import TimedWord
from crossattn.data.audio.spectrogram import RATE, log_mel
from crossattn.data.errors import DataError
from crossattn.nn.interventions import INTERVENTIONS
from crossattn.pretrained.spoken_words import SECONDS_PER_FRAME, rows_of, spoken_words
from crossattn.pretrained.transcriber import Segment, Transcriber, encode
from crossattn.shapes import Bool, Float

__all__ = ["SpeechHeads", "find_speech_heads", "hidden_likelihood"]


@dataclasses.dataclass(frozen=True, eq=False)
class SpeechHeads:
    """Two scores of each head, over the tokens of a recording.

    Attributes:
      points: how often it listens most to a frame of the word that is written.
      drops: what the log-likelihood of a token loses while the head does not hear its word.
    """

    points: HeadScores
    drops: HeadScores


def find_speech_heads(
    model: Transcriber,
    sound: Float[np.ndarray, " N"],
    *,
    notify: Callable[[str], None] = lambda said: None,
    **settings: Any,
) -> SpeechHeads:
    """The heads of a model, judged by the words that it writes about a sound.

    Where a word is spoken is found by alignment, see `spoken_words`: heads are judged by those that
    align, so a model whose alignment heads are unknown is judged by agreement.

    Args:
      model: by `crossattn.pretrained.load_model`.
      sound: at 16 kHz.
      notify: told of each segment.
      **settings: of `Transcriber.transcribe`.

    Raises:
      ValueError: as `Transcriber.transcribe`.
      DataError: fewer than two tokens are written about it.
    """
    stack = model.model.decoder.stack
    shape = stack.layers, stack.heads
    heads = list(np.ndindex(shape))
    transcript = model.transcribe(sound, heads=heads, **settings)
    maps, regions, drops = [], [], []
    for segment in transcript.segments:
        words = spoken_words(model, sound, segment, heads, language=transcript.language)
        if not words:
            continue
        notify(f"knock-outs of {len(heads)} heads, {segment.start:.0f} to {segment.end:.0f} s")
        rows = rows_of(segment)[:, :-1]
        region = _regions(words, segment.start, *rows.shape[1:])
        maps.append(rows.reshape(*shape, *rows.shape[1:]))
        regions.append(region)
        likelihood = hidden_likelihood(model, sound, segment)
        drops.append(head_knockouts(likelihood, shape, region)[..., region.any(axis=1)])
    if sum(one.any(axis=1).sum() for one in regions) < 2:
        raise DataError("fewer than two tokens are written about this sound: is it silent?")
    return SpeechHeads(find_alignment_heads(maps, regions), knockout_scores(drops))


def _regions(words: Sequence[TimedWord], start: float, tokens: int, frames: int) -> np.ndarray:
    """Which frames each token is about: those of its word."""
    middles = (np.arange(frames) + 0.5) * SECONDS_PER_FRAME + start
    regions = np.zeros((tokens, frames), bool)
    for word in words:
        regions[list(word.tokens)] = (middles >= word.start) & (middles < word.stop)
    return regions


def hidden_likelihood(
    model: Transcriber, sound: Float[np.ndarray, " N"], segment: Segment
) -> Callable[[Bool[np.ndarray, "L H T S"]], Float[np.ndarray, " T"]]:
    """What `head_knockouts` calls: log-likelihoods of a segment's T tokens, frames hidden.

    Args:
      model: by `crossattn.pretrained.load_model`.
      sound: the whole of it, at 16 kHz.
      segment: of its transcript.

    Returns:
      a function of which heads may not read which frames in the row of each token.
    """
    samples = np.asarray(sound, np.float32)
    samples = samples[round(segment.start * RATE) : round(segment.end * RATE)]
    context = encode(model.model, model.params, jnp.asarray(log_mel(samples, model.bands))[None])
    tokens = jnp.array([[*segment.prompt, *segment.tokens.tolist()]], jnp.int32)
    first = len(segment.prompt) - 1

    def log_likelihood(hidden):
        L, H, T, S = hidden.shape
        edges = np.zeros((L, 1, H, tokens.shape[1], context.shape[1]), bool)
        edges[:, 0, :, first : first + T, :S] = hidden
        found = _log_likelihood(model.model, model.params, tokens, context, jnp.asarray(edges))
        return np.asarray(found)[first:]

    return log_likelihood


@functools.partial(jax.jit, static_argnums=0)
def _log_likelihood(model: Any, params: Any, tokens: Any, context: Any, edges: Any) -> Any:
    """Of each token behind the first one."""
    cut = {"decoder": {"stack": {"blocks": {"cross_attention": {"edges": edges}}}}}
    logits, _ = model.apply({**params, INTERVENTIONS: cut}, tokens, context, method="read")
    logs = jax.nn.log_softmax(logits[0, :-1].astype(jnp.float32))
    return jnp.take_along_axis(logs, tokens[0, 1:, None], axis=-1)[:, 0]
