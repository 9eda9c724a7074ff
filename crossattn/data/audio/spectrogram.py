"""Log-mel spectrograms as Whisper reads them: 100 frames a second, 80 or 128 bands.

As published with the model (Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision"; openai/whisper, `audio.py`): sound at 16 kHz, windows of 25 ms every 10 ms, the mel
scale and the area of triangles of Slaney's Auditory Toolbox (1998), a floor eight decades below
the loudest, and (x + 4) / 4.
"""

import functools

import numpy as np

from crossattn.shapes import Float

__all__ = ["FRAMES_PER_SECOND", "RATE", "log_mel", "mel_filters"]

# Samples a second, samples of a window, and from one window to the next.
RATE, WINDOW, HOP = 16_000, 400, 160
FRAMES_PER_SECOND = RATE // HOP
# Slaney's scale: 3 mels for 200 Hz up to 1 kHz, from there 27 for each factor of 6.4.
HERTZ, BREAK = 200 / 3, 1000.0
STEP = np.log(6.4) / 27
QUIETEST = 1e-10


def log_mel(
    samples: Float[np.ndarray, " N"], bands: int = 80, *, seconds: float | None = 30.0
) -> Float[np.ndarray, "F bands"]:
    """The spectrogram of a sound, padded with silence.

    Args:
      samples: at 16 kHz, in -1..1.
      bands: 80, or 128 of Whisper large-v3.
      seconds: length with the silence; None: as it is. The floor is relative to the loudest band
        of all that is given.

    Returns:
      float32, F = 100 * seconds: frame f is centred at f / 100 seconds.

    Raises:
      ValueError: not one row of finite numbers, longer than `seconds`, or, without silence, at
        most 200 samples.

    Example:
      >>> hum = np.sin(np.arange(16_000) * (2 * np.pi * 440 / RATE)).astype(np.float32)
      >>> features = log_mel(hum)
      >>> features.shape, int(features[50].argmax())
      ((3000, 80), 11)
    """
    samples = np.asarray(samples)
    if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(
            f"samples are one row of floating-point numbers (N,), got {samples.dtype} "
            f"{samples.shape}"
        )
    if not np.isfinite(samples).all():
        raise ValueError("samples are finite numbers, got NaN or infinity")
    if seconds is not None:
        samples = _padded(samples, round(seconds * RATE))
    if len(samples) <= WINDOW // 2:
        raise ValueError(
            f"a spectrogram takes more than {WINDOW // 2} samples, got {len(samples)}: give seconds"
        )
    power = _power(samples)
    logs = np.log10(np.maximum(power @ mel_filters(bands), QUIETEST))
    return ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32)


def _padded(samples: np.ndarray, length: int) -> np.ndarray:
    if len(samples) > length:
        raise ValueError(
            f"{len(samples) / RATE:.1f} s of sound are more than {length / RATE:g} s: cut it, or "
            "give more seconds"
        )
    return np.pad(samples, (0, length - len(samples)))


def _power(samples: np.ndarray) -> np.ndarray:
    """Power of each frequency in each window, (F, 201), float64; sound is mirrored at its ends."""
    mirrored = np.pad(samples.astype(np.float64), WINDOW // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, WINDOW)[::HOP]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    # One window more than there are hops, as published.
    return np.abs(np.fft.rfft(windows[: len(samples) // HOP] * hann)) ** 2


@functools.cache
def mel_filters(bands: int) -> Float[np.ndarray, "201 bands"]:
    """Triangles over the frequencies of a window, each of area 1, from 0 Hz to 8 kHz; float64.

    Raises:
      ValueError: no band.

    Example:
      >>> mel_filters(80).shape, bool((mel_filters(80).sum(axis=0) > 0).all())
      ((201, 80), True)
    """
    if bands < 1:
        raise ValueError(f"bands must be at least 1, got {bands}")
    top = BREAK / HERTZ + np.log(RATE / 2 / BREAK) / STEP
    mels = np.linspace(0, top, bands + 2)
    linear = mels * HERTZ
    corners = np.where(linear < BREAK, linear, BREAK * np.exp(STEP * (mels - BREAK / HERTZ)))
    left, middle, right = corners[:-2], corners[1:-1], corners[2:]
    hertz = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[:, None]
    up, down = (hertz - left) / (middle - left), (right - hertz) / (right - middle)
    filters = np.maximum(0, np.minimum(up, down)) * (2 / (right - left))
    filters.flags.writeable = False
    return filters
