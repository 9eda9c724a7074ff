"""Files of sound: what is read, against samples that were written, and what is refused."""

import struct
import sys
import tracemalloc
import types
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from crossattn.data.audio import read_sound, resample
from crossattn.data.errors import DataError
from tests.support.sounds import made_up

RATE = 16_000


@pytest.fixture
def hum():
    return 0.5 * made_up("chirp")[:3_000]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_whole_numbers_of_any_width(tmp_path, hum, width, channels):
    whole = np.rint(hum.astype(np.float64) * 2 ** (8 * width - 1)).astype(np.int64)
    stored = whole + 128 if width == 1 else whole
    one = b"".join(int(n).to_bytes(width, "little", signed=width > 1) for n in stored)
    frames = np.frombuffer(one, np.uint8).reshape(-1, width)
    # The second channel is silent.
    silent = np.full_like(frames, 128 if width == 1 else 0)
    frames = np.hstack([frames, silent][:channels])
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(RATE)
        file.writeframes(frames.tobytes())
    samples = read_sound(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples * channels, hum, atol=2 ** -(8 * width - 1) + 1e-7)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point_numbers(tmp_path, hum, kind):
    wavfile.write(tmp_path / "a.wav", RATE, np.stack([hum, hum], axis=1).astype(kind))
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), hum, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_another_rate_is_the_same_hum(tmp_path, rate):
    hum = lambda rate: np.sin(np.arange(rate) * (2 * np.pi * 440 / rate)).astype(np.float32)
    wavfile.write(tmp_path / "a.wav", rate, hum(rate))
    samples = read_sound(tmp_path / "a.wav")
    assert samples.shape == (RATE,)
    inner = slice(200, -200)  # at its ends the filter sees silence
    np.testing.assert_allclose(samples[inner], hum(RATE)[inner], atol=2e-3)


def test_what_is_too_high_for_the_rate_is_not_folded_down():
    high = np.sin(np.arange(48_000) * (2 * np.pi * 15_000 / 48_000)).astype(np.float32)
    assert np.abs(resample(high, 48_000)[200:-200]).max() < 0.01


def test_bytes_that_say_something_about_a_sound_are_passed_over(tmp_path, hum):
    wavfile.write(tmp_path / "a.wav", RATE, hum)
    with (tmp_path / "a.wav").open("ab") as file:
        file.write(b"bext" + struct.pack("<I", 4) + b"said")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.wav"), hum)


def refused(path):
    with pytest.raises(DataError) as caught:
        read_sound(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_what_is_no_file_is_refused(tmp_path):
    assert refused(tmp_path / "no.wav").startswith("there is no file")
    assert "is a folder: give a file of sound" in refused(tmp_path)
    (tmp_path / "a.wav").touch()
    assert "is empty: it has no bytes" in refused(tmp_path / "a.wav")


def test_a_file_without_samples_is_refused(tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.zeros(0, np.int16))
    assert "0 seconds long" in refused(tmp_path / "a.wav")


def test_damage_is_refused_and_never_read(tmp_path, hum):
    path = tmp_path / "a.wav"
    wavfile.write(path, RATE, hum)
    whole = path.read_bytes()
    for length in (13, 20, 30, 43, 50, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:length])
        assert "damaged" in refused(path), length
    path.write_bytes(whole[:24] + struct.pack("<I", 3) + whole[28:])
    assert "says that it has 3 samples a second" in refused(path)
    wavfile.write(path, RATE, np.array([0, np.nan], np.float32))
    assert "no finite numbers" in refused(path)


def test_another_kind_names_the_command_that_installs(tmp_path, monkeypatch, hum):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "a.flac"
    path.write_bytes(b"fLaC and more")
    assert "type: pip install 'crossattn[pretrained]', or convert" in refused(path)
    # A WAV file whose samples are compressed (7: mu-law) is of another kind as well.
    wavfile.write(path, RATE, (hum * 100).astype(np.uint8))
    path.write_bytes(path.read_bytes().replace(b"\x10\0\0\0\1\0", b"\x10\0\0\0\7\0", 1))
    assert "not a plain WAV file" in refused(path)


def test_another_kind_is_read_by_soundfile(tmp_path, monkeypatch, hum):
    def read(path, dtype):
        if path.read_bytes() != b"fLaC":
            raise RuntimeError("Format not\nrecognised.")
        return np.stack([hum, hum], axis=1).astype(dtype), RATE

    monkeypatch.setitem(sys.modules, "soundfile", types.SimpleNamespace(read=read))
    (tmp_path / "a.flac").write_bytes(b"fLaC")
    np.testing.assert_array_equal(read_sound(tmp_path / "a.flac"), hum)
    (tmp_path / "b.mp3").write_bytes(b"no sound")
    assert "Format not recognised.: convert it to WAV" in refused(tmp_path / "b.mp3")


def test_channels_are_averaged_first(tmp_path):
    """Two hours in stereo take 12 bytes for each pair of samples, and not 28."""
    pairs = np.random.default_rng(0).integers(-(2**15), 2**15, size=(200_000, 2)).astype(np.int16)
    wavfile.write(tmp_path / "stereo.wav", RATE, pairs)
    read_sound(tmp_path / "stereo.wav")
    tracemalloc.start()
    found = read_sound(tmp_path / "stereo.wav")
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 14 * len(pairs)
    np.testing.assert_array_equal(found, (pairs / 2**15).mean(axis=1).astype(np.float32))
    opposite = np.full((99, 2), [np.inf, -np.inf], np.float32)
    wavfile.write(tmp_path / "endless.wav", RATE, opposite)
    with pytest.raises(DataError, match="no finite numbers"):
        read_sound(tmp_path / "endless.wav")
