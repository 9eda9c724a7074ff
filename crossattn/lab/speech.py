"""What a model of speech writes about a file, and the page on which its words light up."""

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from crossattn import viewer
from crossattn.align.tokens_in_time import TimedWord
from crossattn.data.audio.spectrogram import RATE, log_mel
from crossattn.data.errors import DataError
from crossattn.interop.files import WeightsError
from crossattn.ops import Mask
from crossattn.pretrained import load_model
from crossattn.pretrained.spoken_words import SECONDS_PER_FRAME, rows_of, spoken_words
from crossattn.pretrained.transcriber import Transcriber, Transcript, encode
from crossattn.shapes import Float

__all__ = ["explore_sound", "load_transcriber", "transcribe_words"]

# Spectrograms of sound that is padded to this.
SECONDS = 30.0


def load_transcriber(source: str | os.PathLike) -> Transcriber:
    """A model of speech, by `crossattn.pretrained.load_model`.

    Raises:
      WeightsError: as `load_model`, or the model is none of speech.
    """
    model = load_model(source)
    if not isinstance(model, Transcriber):
        raise WeightsError(f"{source} is no model of speech but a {type(model).__name__}")
    return model


def transcribe_words(
    model: Transcriber, sound: Float[np.ndarray, " N"], **settings: Any
) -> tuple[Transcript, list[list[TimedWord]]]:
    """The transcript of a sound, and the words of each of its segments with their times.

    Args:
      model: by `crossattn.pretrained.load_model`.
      sound: at 16 kHz.
      **settings: of `Transcriber.transcribe`.

    Raises:
      ValueError: as `Transcriber.transcribe`.
    """
    heads = model.alignment_heads
    transcript = model.transcribe(sound, heads=heads, **settings)
    words = [
        spoken_words(model, sound, segment, heads, language=transcript.language)
        for segment in transcript.segments
    ]
    return transcript, words


def explore_sound(
    model: Transcriber,
    sound: Float[np.ndarray, " N"],
    *,
    title: str,
    notify: Callable[[str], None] = lambda said: None,
    **settings: Any,
) -> viewer.Page:
    """The page of a sound: its words over its spectrogram, in every layer and head.

    A word's map is the mean over its tokens, each at the position that predicted it. Outlined is
    when the word is spoken, by `spoken_words`. A knock-out hides the frames of a word from all
    heads, and as many elsewhere, and says what the model then writes.

    Args:
      model: by `crossattn.pretrained.load_model`.
      sound: at 16 kHz.
      title: what stands above the page.
      notify: told of each segment of a long sound.
      **settings: of `Transcriber.transcribe`.

    Raises:
      ValueError: as `Transcriber.transcribe`.
      DataError: nothing is said in the sound.
    """
    stack = model.model.decoder.stack
    heads = [(layer, head) for layer in range(stack.layers) for head in range(stack.heads)]
    transcript = model.transcribe(sound, heads=heads, **settings)
    shown: list[viewer.Example] = []
    segments = transcript.segments
    for segment in segments:
        notify(f"knock-outs of {segment.start:.0f} to {segment.end:.0f} s")
        words = spoken_words(model, sound, segment, heads, language=transcript.language)
        if words:
            name = f"{segment.start:.1f} to {segment.end:.1f} s, " if len(segments) > 1 else ""
            shown.append(_example(model, sound, segment, words, name))
    if not shown:
        raise DataError("the model writes nothing about this sound: is anything said in it?")
    return viewer.explore(shown, title=title)


def _example(model, sound, segment, words, name):
    stack = model.model.decoder.stack
    rows = rows_of(segment)
    maps = np.stack([rows[:, list(word.tokens)].mean(axis=1) for word in words], axis=1)
    samples = np.asarray(sound)[round(segment.start * RATE) : round(segment.end * RATE)]
    frames = rows.shape[-1]
    regions = [_share(word, segment.start, frames) for word in words]
    return viewer.Example(
        [word.text for word in words],
        maps.reshape(stack.layers, stack.heads, len(words), frames),
        image=_picture(samples, model.bands, frames),
        seconds=frames * SECONDS_PER_FRAME,
        regions=np.stack(regions),
        region_name="time of the word",
        caption=f"{name}times of words are found by alignment",
        readings="predicted",
        generated=True,
        answers=_answers(model, samples, segment, words, np.stack(regions) > 0),
    )


def _share(word: TimedWord, start: float, frames: int) -> np.ndarray:
    """The share of each frame in which a word is spoken."""
    edges = np.arange(frames + 1) * SECONDS_PER_FRAME + start
    share = np.minimum(edges[1:], word.stop) - np.maximum(edges[:-1], word.start)
    return np.clip(share / SECONDS_PER_FRAME, 0, 1)


def _picture(samples: np.ndarray, bands: int, frames: int) -> np.ndarray:
    """The spectrogram of the frames (bands, F), grey, low sounds below."""
    padded = np.pad(samples.astype(np.float32), (0, max(0, 400 - len(samples))))
    features = log_mel(padded, bands, seconds=None)
    features = np.pad(features, ((0, max(0, 2 * frames - len(features))), (0, 0)), mode="edge")
    features = features[: 2 * frames].T[::-1]
    low, high = features.min(), features.max()
    return (features - low) / max(float(high - low), 1e-6)


def _answers(model, samples, segment, words, spoken):
    """Of each word what is written with nothing, its frames, and as many others hidden."""
    heard = log_mel(samples.astype(np.float32), model.bands, seconds=SECONDS)
    context = encode(model.model, model.params, jnp.asarray(heard)[None])
    tokens = jnp.array([[*segment.prompt, *segment.tokens.tolist()]], jnp.int32)
    frames, found = spoken.shape[1], []
    for place, word in enumerate(words):
        row, first = len(segment.prompt) - 1 + word.tokens[0], int(segment.tokens[word.tokens[0]])
        hidden = spoken[place]
        # As long a stretch, half of the sound away.
        other = np.roll(hidden, frames // 2)
        for what, keys in (("nothing", None), ("its frames", hidden), ("as many others", other)):
            visible = np.ones(context.shape[1], bool)
            if keys is not None:
                visible[:frames] = ~keys
            given = (tokens, context, visible, row)
            p = np.asarray(_predicted(model.model, model.params, *given))
            best = first if keys is None else int(p.argmax())
            said = model.tokenizer.decode([best]).strip() or "(silence)"
            found.append(viewer.Answer(what, said, min(float(p[best]), 1.0), keys, place))
    return found


@functools.partial(jax.jit, static_argnums=0)
def _predicted(model: Any, params: Any, tokens: Any, context: Any, visible: Any, row: Any) -> Any:
    """Probabilities (V,) of the token behind one of them, while only some frames are heard."""
    given = {"mask": Mask.keys(visible[None]), "method": "read"}
    logits, _ = model.apply(params, tokens, context, **given)
    return jax.nn.softmax(logits[0, row].astype(jnp.float32))
