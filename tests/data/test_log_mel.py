"""Log-mel spectrograms against transformers' WhisperFeatureExtractor, see make_log_mel.py."""

from pathlib import Path

import numpy as np
import pytest

from crossattn.data.audio import RATE, log_mel, mel_filters, read_sound
from tests.support.sounds import MADE_UP, RECORDED, SOUNDS, made_up

FIXTURE = Path(__file__).parents[1] / "fixtures" / "log_mel.npz"


@pytest.fixture(scope="module")
def published():
    with np.load(FIXTURE) as kept:
        return dict(kept)


def agree(ours, published, name):
    np.testing.assert_allclose(ours, published[name], atol=1e-5, rtol=0)
    # Single precision, far below the loudest band.
    np.testing.assert_allclose(ours, published[f"{name}/torch"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("bands", [80, 128])
def test_filters_are_those_of_slaney(published, bands):
    np.testing.assert_allclose(mel_filters(bands), published[f"mel{bands}"], atol=1e-8)


@pytest.mark.parametrize("name", MADE_UP)
def test_features_of_made_up_sound_are_whispers(published, name):
    ours = log_mel(made_up(name))
    assert ours.shape == (3000, 80)
    assert ours.dtype == np.float32
    agree(ours[::37], published, f"{name}/80")


def test_features_of_large_v3_are_whispers(published):
    ours = log_mel(made_up("noise"), 128)
    agree(ours[::37], published, "noise/128")


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_features_of_recordings_are_whispers(published, name):
    if not SOUNDS.is_dir():
        pytest.skip(f"no recordings in {SOUNDS}: apt install asterisk-core-sounds-en-wav")
    ours = log_mel(read_sound(SOUNDS / f"{name}.wav"))
    agree(ours[:200:7], published, f"{name}/80")


def test_without_silence_there_are_as_many_frames_as_hops():
    sound = made_up("chirp")
    features = log_mel(sound, seconds=None)
    assert features.shape == (len(sound) // 160, 80)
    # Frames that the silence does not reach, with a floor of the same loudest band.
    np.testing.assert_allclose(features[:200], log_mel(sound)[:200], atol=1e-6)


def test_a_frame_is_of_its_time():
    click = np.zeros(RATE, np.float32)
    click[8_000] = 1
    features = log_mel(click, seconds=1.0)
    assert features.mean(axis=1).argmax() == 50


def test_what_is_no_sound_is_refused():
    with pytest.raises(ValueError, match=r"31\.0 s of sound are more than 30 s"):
        log_mel(np.zeros(31 * RATE, np.float32))
    # Outside of tests, where annotations are not checked.
    unchecked = log_mel.__wrapped__
    with pytest.raises(ValueError, match=r"one row of floating-point numbers \(N,\), got int16"):
        unchecked(np.zeros(9, np.int16))
    with pytest.raises(ValueError, match=r"float32 \(2, 9\)"):
        unchecked(np.zeros((2, 9), np.float32))
    with pytest.raises(ValueError, match="NaN or infinity"):
        log_mel(np.full(9, np.nan))
    with pytest.raises(ValueError, match="more than 200 samples, got 200: give seconds"):
        log_mel(np.zeros(200), seconds=None)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        log_mel(np.zeros(9), 0)
