"""The windows of a sound that a model of speech hears one after another."""

from collections.abc import Generator
from typing import Any

import jax.numpy as jnp
import numpy as np

from crossattn.data.audio.spectrogram import FRAMES_PER_SECOND, RATE, log_mel
from crossattn.shapes import Float

__all__ = ["SECONDS", "next_window", "quiet_windows", "seeking_windows", "window_length"]

# (start, end, spectrogram) of each; sent how many seconds of it are done.
Windows = Generator[tuple[float, float, Any], float | None, None]

SECONDS = 30.0
# A window ends at the quietest tenth of a second of its last so many seconds.
SEARCHED, TENTH = 5 * RATE, RATE // 10


def quiet_windows(sound: Float[np.ndarray, "..."], bands: int) -> Windows:
    """Windows that end at quiet places, whatever is done of them; of no samples there is none.

    Args:
      sound: (N,) samples at 16 kHz, or a spectrogram (F, bands), which is one window.
      bands: of the spectrograms.

    Raises:
      ValueError: a sound of another shape, or a spectrogram of no time.
    """
    if sound.ndim not in (1, 2) or (sound.ndim == 2 and not len(sound)):
        raise ValueError(
            f"a sound is samples (N,) or a spectrogram (F, {bands}), got {sound.shape}"
        )
    if sound.ndim == 2:
        yield 0.0, len(sound) / FRAMES_PER_SECOND, jnp.asarray(sound, jnp.float32)
        return
    start = 0
    while start < len(sound):
        end = start + window_length(sound[start:])
        frames = log_mel(sound[start:end], bands, seconds=SECONDS)
        yield start / RATE, end / RATE, jnp.asarray(frames)
        start = end


def seeking_windows(sound: Float[np.ndarray, "..."], bands: int) -> Windows:
    """Windows of 30 seconds, each of which begins where the one before is done.

    Arguments and errors as those of `quiet_windows`.

    >>> windows = seeking_windows(np.zeros(40 * RATE, np.float32), 80)
    >>> [next_window(windows, done)[:2] for done in (None, 12.5)]
    [(0.0, 30.0), (12.5, 40.0)]
    """
    if sound.ndim != 1:
        yield from quiet_windows(sound, bands)
        return
    start = 0.0
    while (first := round(start * RATE)) < len(sound):
        end = min(len(sound), first + round(SECONDS * RATE))
        frames = log_mel(sound[first:end], bands, seconds=SECONDS)
        done = yield start, end / RATE, jnp.asarray(frames)
        # A frame at least, so that there is an end.
        start += max(done or 0.0, 1 / FRAMES_PER_SECOND)


def next_window(windows: Windows, done: float | None) -> tuple[float, float, Any] | None:
    """The window behind one of which so many seconds are done; None where there is none."""
    try:
        return windows.send(done)
    except StopIteration:
        return None


def window_length(samples: Float[np.ndarray, " N"]) -> int:
    """How many samples the first window has; at least a second is left for the next one.

    >>> sound = np.ones(40 * RATE, np.float32)
    >>> sound[27 * RATE : 27 * RATE + TENTH] = 0
    >>> round(window_length(sound) / RATE, 2)
    27.05
    """
    if len(samples) <= SECONDS * RATE:
        return len(samples)
    longest = min(int(SECONDS * RATE), len(samples) - RATE)
    last = np.square(samples[longest - SEARCHED : longest], dtype=np.float64)
    loudness = last.reshape(-1, TENTH).sum(axis=1)
    return longest - SEARCHED + int(loudness.argmin()) * TENTH + TENTH // 2
