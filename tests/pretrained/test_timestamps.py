"""Time stamps by the rules of openai/whisper, windows that seek by them, silence without words."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.data.audio.spectrogram import RATE
from crossattn.models.generate import Beam, Greedy
from crossattn.models.logits import Text
from crossattn.pretrained import load_model
from crossattn.pretrained.acceptance import Acceptance
from crossattn.pretrained.sound_windows import next_window, seeking_windows
from crossattn.pretrained.timestamps import TimestampRules, divided
from crossattn.pretrained.transcriber import encode
from tests.support.whisper import PROMPT, peer, write_folder

PLAIN, END, WORDS = 9, 7, 80
RULES = TimestampRules(plain=PLAIN, end=END)


def by_hand(written, logits):
    """What openai/whisper forbids behind these tokens: its loop over one text."""
    first, out = PLAIN + 1, np.array(logits, np.float64)
    out[PLAIN] = -np.inf
    last = len(written) >= 1 and written[-1] >= first
    before = len(written) < 2 or written[-2] >= first
    if last and before:
        out[first:] = -np.inf
    elif last:
        out[:END] = -np.inf
    if stamps := [token for token in written if token >= first]:
        least = stamps[-1] if last and not before else stamps[-1] + 1
        out[first:least] = -np.inf
    if not written:
        out[:first] = out[first + 51 :] = -np.inf
    if np.logaddexp.reduce(out[first:]) > out[:first].max():
        out[:first] = -np.inf
    return out - np.logaddexp.reduce(out)


def test_rules():
    rng = np.random.default_rng(0)
    texts = [[], [10], [10, 2], [10, 2, 30], [10, 2, 30, 30], [10, 2, 30, 30, 3], [12, 1, 2, 40]]
    logits = rng.normal(size=(len(texts), WORDS)).astype(np.float32)
    logits[[2, 5], 4] = 9  # a word that is likelier than all time stamps
    logits[6, END] = 9  # the end, behind one time stamp
    rules = jax.jit(RULES)
    for text, row in zip(texts, logits, strict=True):
        tokens = [1, 11, *text]  # a time stamp in the prompt is none of the text
        padded = jnp.array([tokens + [-1] * (8 - len(tokens))])
        given = jnp.int32(len(tokens)), jnp.array([len(text) + 1]), jnp.array([2])
        found = rules(jnp.asarray(row)[None], Text(padded, *given))[0]
        np.testing.assert_allclose(found, by_hand(text, row), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tokens", "parts", "done"),
    [
        ([1, 2], [(0, 30, [1, 2])], 30),
        ([10, 1], [(0, 30, [10, 1])], 30),
        ([10, 1, 60], [(0, 1, [10, 1, 60])], 30),
        ([10, 1, 60, 60], [(0, 1, [10, 1, 60])], 1),
        ([10, 1, 60, 65, 2, 85], [(0, 1, [10, 1, 60]), (1.1, 1.5, [65, 2, 85])], 30),
        ([10, 1, 60, 65, 2, 85, 85, 3], [(0, 1, [10, 1, 60]), (1.1, 1.5, [65, 2, 85])], 1.5),
        ([], [(0, 30, [])], 30),
    ],
)
def test_parts_of_a_text(tokens, parts, done):
    """Behind a pair of stamps at the end a sentence was cut: it is read again."""
    assert divided(tokens, PLAIN, 30.0) == (parts, done)


def test_windows_go_on_where_one_is_done():
    sound = np.zeros(50 * RATE, np.float32)
    windows, seen, done = seeking_windows(sound, 80), [], iter([None, 12.5, 30.0, 0.0, 7.5])
    while (window := next_window(windows, next(done))) is not None:
        seen.append(window[:2])
        assert window[2].shape == (3000, 80)
    assert seen == [(0.0, 30.0), (12.5, 42.5), (42.5, 50.0), (42.51, 50.0)]
    assert not list(seeking_windows(sound[:0], 80))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A small one, and a spectrogram that it knows."""
    about, arrays, state = peer()
    loaded = load_model(write_folder(tmp_path_factory.mktemp("whisper"), about, state))
    return loaded, arrays["frames"][0]


def test_silence_has_no_text(model):
    loaded, frames = model
    given = {"language": "de", "length": 5}
    told = dataclasses.replace(loaded, special=dataclasses.replace(loaded.special, no_speech=14))
    silence = told.no_speech(encode(told.model, told.params, jnp.asarray(frames)[None]))
    assert 0 < silence < 1
    (segment,) = loaded.transcribe(frames, **given).segments
    assert segment.no_speech is None
    assert told.transcribe(frames, **given, acceptance=Acceptance(0.9 * silence, 0.0))[2] == ()
    # A text that is sure enough is kept, and so is one where speech is likely enough.
    rules = Acceptance(0.9 * silence, -99.0), Acceptance(1.1 * silence, 0.0)
    kept = [told.transcribe(frames, **given, acceptance=rule).segments[0] for rule in rules]
    assert [one.text for one in kept] == [segment.text] * 2
    assert [one.no_speech for one in kept] == [None, pytest.approx(silence)]


def test_poor_texts_are_drawn_again(model):
    loaded, frames = model
    given = {"language": "de", "length": 5}
    (first,) = loaded.transcribe(frames, **given, acceptance=Acceptance(None, None, None)).segments
    again = Acceptance(None, 0.0, None, temperatures=(0.5, 3.0))
    (other,) = loaded.transcribe(frames, **given, acceptance=again).segments
    assert other.tokens.tolist() != first.tokens.tolist()
    repeated = loaded.transcribe(frames, **given, acceptance=again).segments[0]
    assert repeated.tokens.tolist() == other.tokens.tolist()


def test_without_time_stamps(model):
    loaded, frames = model
    with pytest.raises(ValueError, match="timestamps=True gives no maps: leave heads out"):
        loaded.transcribe(frames, timestamps=True, heads=[(0, 0)])
    with pytest.raises(ValueError, match="this model has no time stamps: leave timestamps out"):
        loaded.transcribe(frames, language="de", timestamps=True)
    special = dataclasses.replace(loaded.special, timestamps=1)
    assert special.prompt("de", "transcribe", timestamps=True) == list(PROMPT[:-1])


@pytest.mark.parametrize("strategy", [Greedy(), Beam(2)])
def test_segments(model, strategy):
    """Numbers behind another token stand for times: pairs, in order, none twice."""
    loaded, frames = model
    special = dataclasses.replace(
        loaded.special, plain=13, timestamps=13, end=10, suppressed=(), not_first=()
    )
    stamped = dataclasses.replace(loaded, special=special)
    segments = stamped.transcribe(
        frames, language="de", length=9, timestamps=True, strategy=strategy
    ).segments
    assert segments
    for segment in segments:
        assert 0 <= segment.start <= segment.end <= len(frames) / 100
        assert segment.tokens[0] > 13
        assert segment.text == " ".join(f"w{n}" for n in segment.tokens if n < 13)
