"""Recordings as tokens of log-mel frames, and how much of each token a word takes."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from crossattn.data.audio import RATE, log_mel, read_sound
from crossattn.data.errors import DataError
from crossattn.data.folder.table import BadLines
from crossattn.data.recordings.lines import RecordingLine, SpokenWord
from crossattn.shapes import Float

__all__ = ["Frames", "Recording", "pad_with_silence", "read_recordings", "word_coverage"]

FRAMES_PER_SECOND = 100
# Reading that takes longer than this shows its progress.
PATIENCE_SECONDS = 3.0


class Frames(NamedTuple):
    """How frames of 10 ms become tokens.

    Attributes:
        token: frames of a token.
        slices: averages of equally many of these that it holds.
        bands: of mel.
    """

    token: int
    slices: int
    bands: int

    @property
    def seconds(self) -> float:
        """Of a token."""
        return self.token / FRAMES_PER_SECOND

    def tokens(self, samples: Float[np.ndarray, " N"]) -> Float[np.ndarray, "P F"]:
        """The tokens of a sound at 16 kHz, float32: its own, and one of silence behind them.

        F is slices * bands, in the order of time.

        Example:
            >>> Frames(10, 5, 40).tokens(np.zeros(4_000, np.float32)).shape
            (4, 200)
        """
        count = -(-len(samples) * FRAMES_PER_SECOND // (RATE * self.token)) + 1
        frames = log_mel(samples, self.bands, seconds=count * self.seconds)
        return frames.reshape(count, self.slices, -1, self.bands).mean(axis=2).reshape(count, -1)


class Recording(NamedTuple):
    """A recording as a model reads it.

    Attributes:
        tokens: (P, F) float32, the last of silence.
        seconds: that it lasts.
        hash: of its samples, 64 bits.
        file: where it lies.
    """

    tokens: np.ndarray
    seconds: float
    hash: int
    file: Path


def read_recordings(
    directory: Path, lines: Iterable[RecordingLine], frames: Frames, longest: float, bad: BadLines
) -> dict[str, Recording]:
    """Every recording that lines name, by its path; each is read once.

    What cannot be read, or lasts longer than `longest` seconds, is collected, at the first line
    that names it.
    """
    named: dict[str, int] = {}
    for line in lines:
        named.setdefault(line.audio, line.number)
    found = {}
    for path, number in tqdm(named.items(), desc="reading recordings", delay=PATIENCE_SECONDS):
        file = directory / path
        try:
            if not file.is_file():
                bad.add(number, f"there is no recording {path} in {directory}")
                continue
            samples = read_sound(file)
        except (OSError, DataError) as error:
            bad.add(number, f"{error.strerror}: {path}" if isinstance(error, OSError) else error)
            continue
        seconds = len(samples) / RATE
        if seconds > longest:
            bad.add(
                number,
                f"{path} lasts {seconds:.1f} s, longer than --data.longest {longest:g}: cut it, or "
                "give more seconds",
            )
            continue
        digest = hashlib.blake2b(samples.tobytes(), digest_size=8).digest()
        tokens = frames.tokens(samples)
        found[path] = Recording(tokens, seconds, int.from_bytes(digest, "big"), file)
    return found


def pad_with_silence(recordings: Sequence[Recording], count: int) -> Float[np.ndarray, "N P F"]:
    """Recordings of `count` tokens each: silence is repeated to the end."""
    found = np.empty((len(recordings), count, recordings[0].tokens.shape[-1]), np.float32)
    for row, recording in zip(found, recordings, strict=True):
        own = len(recording.tokens)
        row[:own], row[own:] = recording.tokens, recording.tokens[-1]
    return found


def word_coverage(
    words: Sequence[Sequence[SpokenWord]], frames: Frames, count: int
) -> Float[np.ndarray, "N O P"]:
    """The share of each token's time that each word of a recording takes.

    Example:
        >>> said = [[SpokenWord(("one",), 0.05, 0.2)]]
        >>> word_coverage(said, Frames(10, 5, 40), 3).round(2).tolist()
        [[[0.5, 1.0, 0.0]]]
    """
    found = np.zeros((len(words), max(1, *map(len, words)), count), np.float32)
    edges = np.arange(count + 1) * frames.seconds
    for row, own in zip(found, words, strict=True):
        for region, word in zip(row, own, strict=False):
            inside = np.clip(edges, word.start, word.end)
            region[:] = np.diff(inside) / frames.seconds
    return np.minimum(found, 1)
