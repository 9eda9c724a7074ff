"""Recorded words at known times, and what Whisper listens to while it reads them as a text.

Needs the recordings of Debian's asterisk-core-sounds-en-wav (CROSSATTN_SOUNDS names their folder)
and the packages of `crossattn.pretrained.packages`; `whisper` skips what is missing.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.align import group_tokens, spoken_tokens
from crossattn.data.audio import RATE, log_mel, read_sound
from crossattn.interop.files import WeightsError
from crossattn.pretrained import load_model
from crossattn.pretrained.transcriber import encode
from tests.support.sounds import SOUNDS

NUMBERS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen twenty"""
TENS = "thirty forty fifty sixty seventy eighty ninety"
DAYS = "Sunday Monday Tuesday Wednesday Thursday Friday Saturday"
MONTHS = """January February March April May June July August September October November
December"""
NAMED = "hundred thousand million today tomorrow yesterday"
ALONE = """activated added calling cancelled disabled enabled extension goodbye hello location
number removed second time"""
FILES = (
    {f"digits/{n}": word for n, word in enumerate(NUMBERS.split())}
    | {f"digits/{n}0": word for n, word in enumerate(TENS.split(), 3)}
    | {f"digits/day-{n}": word for n, word in enumerate(DAYS.split())}
    | {f"digits/mon-{n}": word for n, word in enumerate(MONTHS.split())}
    | {f"digits/{word}": word for word in NAMED.split()}
    | {word: word for word in ALONE.split()}
)
WORDS, FRAMES_PER_SECOND = 60, 50
# A frame of Whisper's encoder is made of 3 spectrogram frames of 25 ms, 10 ms apart.
REACH = 0.0225


def whisper(name):
    """The model, if it and the recordings are here."""
    if not SOUNDS.is_dir():
        pytest.skip(f"no recordings in {SOUNDS}: apt install asterisk-core-sounds-en-wav")
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    try:
        return load_model(name)
    except WeightsError as error:
        pytest.skip(str(error))


def spoken_part(samples):
    """Without the silence around it: what is quieter than 40 dB below the loudest 10 ms."""
    loud = np.sqrt(np.convolve(samples**2, np.full(160, 1 / 160), "same"))
    heard = np.flatnonzero(loud > loud.max() / 100)
    return samples[heard[0] : heard[-1] + 1]


def clips(each, pauses):
    """(samples, words, times) of 60 words, so many a clip, with pauses of `pauses` seconds."""
    rng = np.random.default_rng(0)
    files = rng.permutation(sorted(FILES))[:WORDS]
    pause = lambda: np.zeros(int(RATE * rng.uniform(*pauses)), np.float32)
    for first in range(0, WORDS, each):
        parts, times = [pause()], []
        for file in files[first : first + each]:
            start = sum(map(len, parts)) / RATE
            parts.append(spoken_part(read_sound(SOUNDS / f"{file}.wav")))
            times.append((start, sum(map(len, parts)) / RATE))
            parts.append(pause())
        yield np.concatenate(parts), [FILES[file] for file in files[first : first + each]], times


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """A clip whose true text was read.

    Attributes:
      tokens: T of the text; `groups` are the words with the places of their tokens, `spoken` says
        which tokens are not punctuation.
      maps: (L, H, T + 1, S), of the rows that predict each token, and of the last token.
      regions: (T, S), the frames that have their middle in the word of each spoken token.
      hearing: (T, S), those that hear anything of it.
    """

    tokens: list
    groups: list
    spoken: np.ndarray
    maps: np.ndarray
    regions: np.ndarray
    hearing: np.ndarray


def heard(model, samples, words, times):
    """All 30 seconds that the model hears, the silence after the clip among them."""
    stack = model.model.decoder.stack
    heads = [(layer, head) for layer in range(stack.layers) for head in range(stack.heads)]
    text = f" {', '.join(words)}."
    text = text[:2].upper() + text[2:]
    tokens = model.tokenizer.encode(text, add_special_tokens=False).ids
    context = encode(model.model, model.params, jnp.asarray(log_mel(samples, model.bands))[None])
    prompt = model.special.prompt("en" if model.special.languages else None, "transcribe")
    maps = model.maps(context, [*prompt, *tokens], heads)[:, len(prompt) - 1 :]
    decode = lambda some: model.tokenizer.decode(some)
    groups = group_tokens(tokens, decode)
    assert len(groups) == len(words)
    spoken = spoken_tokens(groups, tokens, decode)
    frame = np.arange(maps.shape[-1]) / FRAMES_PER_SECOND
    middle = frame + 0.5 / FRAMES_PER_SECOND
    regions, hearing = np.zeros((2, len(tokens), len(frame)), bool)
    for (_, places), (start, stop) in zip(groups, times, strict=True):
        own = [place for place in places if spoken[place]]
        regions[own] = (middle >= start) & (middle <= stop)
        hearing[own] = (frame + REACH > start) & (frame - REACH < stop)
    maps = maps.reshape(stack.layers, stack.heads, *maps.shape[1:])
    return Heard(tokens, groups, spoken, maps, regions, hearing)
