"""Files of sound as samples: WAV by SciPy, everything else by soundfile where it is installed."""

import math
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.data.audio.spectrogram import RATE
from crossattn.data.errors import DataError, one_line
from crossattn.shapes import Float

__all__ = ["read_sound", "resample"]

INSTALL = "pip install 'crossattn[pretrained]'"
# Rates at which sound is recorded; others are of a damaged header.
SLOWEST, FASTEST = 1_000, 768_000


def read_sound(path: str | Path, rate: int = RATE) -> Float[np.ndarray, " N"]:
    """The samples of a file, all channels averaged.

    WAV of whole numbers of any width and of floating-point numbers needs nothing else; FLAC, OGG,
    MP3, AIFF, compressed WAV and what else libsndfile knows needs the package soundfile.

    Args:
      path: the file.
      rate: samples a second of what is returned.

    Returns:
      float32, whole numbers scaled to -1..1.

    Raises:
      DataError: there is no such file, it is empty, damaged or cut short, it has no samples or
        samples that are no numbers, or its kind needs what is not installed.

    Example:
      >>> import scipy.io.wavfile, tempfile
      >>> file = Path(tempfile.mkdtemp()) / "hum.wav"
      >>> scipy.io.wavfile.write(file, 8_000, np.full((800, 2), 1 << 14, np.int16))
      >>> samples = read_sound(file)
      >>> samples.shape, round(float(samples[800]), 2)
      ((1600,), 0.5)
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder: give a file of sound, like speech.wav")
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    if not start:
        raise DataError(f"{path} is empty: it has no bytes")
    wave = start[:4] in (b"RIFF", b"RIFX", b"RF64") and start[8:] == b"WAVE"
    found = _read_wave(path) if wave else None
    own, samples = found or _read_by_soundfile(path)
    if not len(samples):
        raise DataError(f"{path} has no samples: its sound is 0 seconds long")
    if not np.isfinite(samples).all():
        raise DataError(f"{path} is damaged: it has samples that are no finite numbers")
    if not SLOWEST <= own <= FASTEST:
        raise DataError(f"{path} is damaged: it says that it has {own} samples a second")
    return resample(samples, own, rate)


def resample(
    samples: Float[np.ndarray, " N"], rate: int, to: int = RATE
) -> Float[np.ndarray, " M"]:
    """The same sound with another number of samples a second, without frequencies that it lacks.

    By `scipy.signal.resample_poly`: M = ceil(N * to / rate); float32.

    Raises:
      ValueError: a rate below 1.

    Example:
      >>> resample(np.ones(441, np.float32), 44_100).shape
      (160,)
    """
    from scipy.signal import resample_poly

    if min(rate, to) < 1:
        raise ValueError(f"rates are at least 1 sample a second, got {rate} and {to}")
    shared = math.gcd(rate, to)
    same = rate == to or not len(samples)
    new = samples if same else resample_poly(samples, to // shared, rate // shared)
    return np.asarray(new, np.float32)


def _read_wave(path: Path) -> tuple[int, np.ndarray] | None:
    """Rate and samples (N,) of all channels; None of a compressed file."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Chunk .* not understood", wavfile.WavFileWarning)
            # Of a file that ends before its header says.
            warnings.filterwarnings("error", "Reached EOF", wavfile.WavFileWarning)
            rate, samples = wavfile.read(path)
    except ValueError as error:
        if "Unknown wave file format" in str(error):
            return None
        raise DataError(f"{path} is damaged: {one_line(error)}") from None
    except wavfile.WavFileWarning as error:
        raise DataError(f"{path} is damaged: it is cut short: {one_line(error)}") from None
    except (EOFError, OSError, struct.error, KeyError, UnboundLocalError, TypeError) as error:
        raise DataError(f"{path} is damaged: {one_line(error)}") from None
    return rate, _in_one(samples)


def _in_one(samples: np.ndarray) -> np.ndarray:
    """The mean of all channels, first of all: of hours it is what takes memory.

    Whole numbers become floating-point numbers in -1..1; silence of unsigned ones is 128.
    """
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    with np.errstate(all="ignore"):  # of what is no number something is said later
        one = samples if samples.ndim == 1 else samples.mean(axis=1)
    if kind == "u":
        return (one.astype(np.float32) - 128) / 128
    if kind == "i":
        one = one.astype(np.float64, copy=samples.ndim == 1)
        one /= 2.0 ** (8 * size - 1)
    return one


def _read_by_soundfile(path: Path) -> tuple[int, np.ndarray]:
    soundfile = _soundfile(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32")
    except Exception as error:
        raise DataError(
            f"{path} is damaged, or of a kind that is not known: {one_line(error)}: convert it to "
            "WAV"
        ) from None
    return int(rate), samples if samples.ndim == 1 else samples.mean(axis=1)


def _soundfile(path: Path) -> Any:
    try:
        import soundfile
    except ImportError:
        raise DataError(
            f"{path} is not a plain WAV file, and other kinds need soundfile; type: {INSTALL}, or "
            "convert the file to WAV"
        ) from None
    except OSError as error:  # libsndfile is missing
        raise DataError(f"soundfile does not work here: {one_line(error)}") from None
    return soundfile
