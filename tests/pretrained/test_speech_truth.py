"""Whisper's published weights on recorded words whose times are known: heads and word times.

Needs the recordings of Debian's asterisk-core-sounds-en-wav (CROSSATTN_SOUNDS names their folder)
and the packages of `crossattn.pretrained.packages`; skips what is missing.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.align import (
    find_alignment_heads,
    find_pauses,
    group_tokens,
    spoken_starts,
    spoken_tokens,
    timed_words,
    words_at_pauses,
)
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
WORDS, EACH, NEAR = 60, 6, 0.06


def spoken_part(samples):
    """Without the silence around it: what is quieter than 40 dB below the loudest 10 ms."""
    loud = np.sqrt(np.convolve(samples**2, np.full(160, 1 / 160), "same"))
    heard = np.flatnonzero(loud > loud.max() / 100)
    return samples[heard[0] : heard[-1] + 1]


def clips():
    """(samples, words, times) of six words each, with pauses of 0.15 to 0.35 s."""
    rng = np.random.default_rng(0)
    files = rng.permutation(sorted(FILES))[:WORDS]
    pause = lambda: np.zeros(int(RATE * rng.uniform(0.15, 0.35)), np.float32)
    for first in range(0, WORDS, EACH):
        parts, times = [pause()], []
        for file in files[first : first + EACH]:
            start = sum(map(len, parts)) / RATE
            parts.append(spoken_part(read_sound(SOUNDS / f"{file}.wav")))
            times.append((start, sum(map(len, parts)) / RATE))
            parts.append(pause())
        yield np.concatenate(parts), [FILES[file] for file in files[first : first + EACH]], times


def heard(model, samples, words, times):
    """Maps (L, H, T + 1, S) of the true text, which tokens are spoken, times found and frames."""
    stack = model.model.decoder.stack
    heads = [(layer, head) for layer in range(stack.layers) for head in range(stack.heads)]
    text = f" {', '.join(words)}."
    text = text[:2].upper() + text[2:]
    tokens = model.tokenizer.encode(text, add_special_tokens=False).ids
    context = encode(model.model, model.params, jnp.asarray(log_mel(samples, model.bands))[None])
    prompt = model.special.prompt("en" if model.special.languages else None, "transcribe")
    frames = int(np.ceil(len(samples) / RATE * 50))
    maps = model.maps(context, [*prompt, *tokens], heads)[:, len(prompt) - 1 :, :frames]
    decode = lambda some: model.tokenizer.decode(some)
    groups = group_tokens(tokens, decode)
    assert len(groups) == len(words)
    spoken = spoken_tokens(groups, tokens, decode)
    chosen = [heads.index(head) for head in model.alignment_heads]
    starts = spoken_starts(maps[chosen].astype(float), spoken)
    found = timed_words(groups, starts, np.ones(len(tokens)), spoken)
    middle = (np.arange(frames) + 0.5) / 50
    regions = np.zeros((len(tokens), frames), bool)
    for (_, places), (start, stop) in zip(groups, times, strict=True):
        own = [place for place in places if spoken[place]]
        regions[own] = (middle >= start) & (middle <= stop)
    maps = maps.reshape(stack.layers, stack.heads, *maps.shape[1:])
    return maps[:, :, :-1], words_at_pauses(found, find_pauses(samples)), regions


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "perfect", "near"), [("whisper-tiny.en", 2, 0.95), ("whisper-base", 3, 0.88)]
)
def test_published_heads_and_word_times(name, perfect, near):
    if not SOUNDS.is_dir():
        pytest.skip(f"no recordings in {SOUNDS}: apt install asterisk-core-sounds-en-wav")
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    try:
        model = load_model(name)
    except WeightsError as error:
        pytest.skip(str(error))
    maps, errors, regions = [], [], []
    for samples, words, times in clips():
        one, found, region = heard(model, samples, words, times)
        maps.append(one)
        regions.append(region)
        errors += [(w.start - t[0], w.stop - t[1]) for w, t in zip(found, times, strict=True)]
    scores = find_alignment_heads(maps, regions)
    published = [scores.score[head] for head in model.alignment_heads]
    within = np.mean(np.abs(errors) <= NEAR)
    print(f"{name}: {within:.3f} of boundaries within 60 ms; heads {np.round(published, 2)}")
    assert scores.words >= WORDS
    assert scores.chance < 0.15
    # As many of the published heads point nearly always, all of the best ones far above chance.
    assert sum(score >= 0.95 for score in published) >= perfect
    assert len(set(scores.above(0.5)) & set(model.alignment_heads)) >= 5
    assert within >= near
