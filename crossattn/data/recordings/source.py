"""Recordings of one's own beside one file of texts, held in memory as log-mel frames.

    recordings/a.wav
    recordings/texts.jsonl      {"audio": "a.wav", "caption": "one two", "words": [...]}

docs/your_data.md has the columns of the file, and what the times of words are for. A token of the
context is a stretch of time, `data.token_frames` frames of 10 ms; the grid is one row of them.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossattn.data.audio import read_sound
from crossattn.data.dataset import Dataset
from crossattn.data.encoded import with_encoder
from crossattn.data.errors import DataError
from crossattn.data.folder.splits import by_column, by_share
from crossattn.data.folder.table import BadLines, find_table, read_rows
from crossattn.data.originals import Originals
from crossattn.data.recordings.assembly import Heard, Parts, assemble
from crossattn.data.recordings.lines import EXAMPLE, RecordingLine, SpokenWord, recording_lines
from crossattn.data.recordings.sounds import Frames, Recording, read_recordings
from crossattn.data.recordings.texts import RecordingText, texts_of
from crossattn.data.sources import EncodedData, Settings, Source
from crossattn.fields import positive

__all__ = ["RECORDINGS", "ReadRecordings", "RecordingsData", "read_parts"]


@dataclasses.dataclass(frozen=True)
class RecordingsData(EncodedData):
    """Settings of `recordings`."""

    images: int = 0
    """Number of recordings to train on at most; 0 means all."""
    evaluation_images: int = 0
    """Number of recordings in each evaluation split at most; 0 means all."""
    directory: str = ""
    """Folder of recordings and one .jsonl, .json or .csv file, see docs/your_data.md."""
    file: str = ""
    """The file of texts, where the folder has several."""
    token_frames: int = 10
    """Frames of 10 ms that a token of the context is made of."""
    slices: int = 5
    """Averages of equally many frames that a token holds."""
    bands: int = 40
    """Bands of mel of a frame."""
    longest: float = 30.0
    """Seconds that a recording may last."""
    fingerprint: str = ""
    """Of the texts and recordings that a run learnt from: other ones are refused."""

    def __post_init__(self):
        super().__post_init__()
        positive("data.", token_frames=self.token_frames, slices=self.slices, bands=self.bands)
        if self.token_frames % self.slices:
            raise ValueError(
                f"data.token_frames {self.token_frames} do not divide into data.slices "
                f"{self.slices}"
            )
        if not self.longest > 0:
            raise ValueError(f"data.longest takes seconds, got {self.longest:g}")


class ReadRecordings(NamedTuple):
    """What a folder holds.

    Attributes:
        file: of the texts.
        parts: recordings by part, in the order of the images of its examples.
        frames: how they became tokens.
        fingerprint: of all of it.
    """

    file: Path
    parts: Parts
    frames: Frames
    fingerprint: str


def read_parts(data: RecordingsData) -> ReadRecordings:
    """Read the recordings that settings ask for.

    Raises:
        DataError: the folder cannot be read, or lines of its file are bad: the first ones are told.
    """
    if not data.directory:
        raise DataError(
            "data.source recordings reads a folder of recordings: type --data.directory DIR, in "
            f"which a file such as texts.jsonl has lines like {EXAMPLE}"
        )
    directory = Path(data.directory).expanduser()
    file = find_table(directory, data.file, EXAMPLE)
    bad = BadLines(file)
    rows = read_rows(file, bad, EXAMPLE)
    if not rows:
        bad.check()
        raise DataError(f"{file} has no lines: expected some like {EXAMPLE}")
    lines = recording_lines(file, rows, bad)
    frames = Frames(data.token_frames, data.slices, data.bands)
    recordings = read_recordings(directory, lines, frames, data.longest, bad)
    words = _words(lines, recordings, bad)
    bad.check()
    heard = _wanted(file, lines, recordings, words, data.tasks)
    split = {line.audio: line.split for line in lines}
    parts = _divided({path: (split[path], one) for path, one in heard.items()})
    fingerprint = with_encoder(_fingerprint(parts), data.features)
    if data.fingerprint not in ("", fingerprint):
        raise DataError(
            f"{file.name} or its recordings have changed, or this version reads them otherwise: "
            f"the fingerprint of {directory} is {fingerprint}, not {data.fingerprint}"
        )
    limits = {name: data.images if name == "train" else data.evaluation_images for name in parts}
    parts = {name: own[: limits[name] or None] for name, own in parts.items()}
    return ReadRecordings(file, parts, frames, fingerprint)


def _load(settings: Settings) -> Dataset:
    read = read_parts(settings.data)
    originals = {name: _originals(own) for name, own in read.parts.items()}
    found = assemble(read.file, read.parts, read.frames)
    return dataclasses.replace(found, fingerprint=read.fingerprint, originals=originals)


def _originals(own: Sequence[Heard]) -> Originals:
    keys = np.array([one.recording.hash for one in own], np.uint64)
    return Originals(keys, lambda number: read_sound(own[number].recording.file))


def _words(
    lines: Sequence[RecordingLine], recordings: dict[str, Recording], bad: BadLines
) -> dict[str, tuple[SpokenWord, ...]]:
    """The words of each recording, as one of its lines has them; contradictions are collected."""
    found: dict[str, tuple[SpokenWord, ...]] = {}
    splits: dict[int, RecordingLine] = {}
    for line in lines:
        if (recording := recordings.get(line.audio)) is None:
            continue
        other = splits.setdefault(recording.hash, line)
        if other.split != line.split:
            bad.add(
                line.number,
                f"{line.audio} is in the split {line.split}, the same recording is in "
                f"{other.split} in {bad.unit} {other.number}",
            )
        if line.words is None:
            continue
        if found.setdefault(line.audio, line.words) != line.words:
            bad.add(line.number, f"has other words of {line.audio} than a line before it")
        elif line.words and line.words[-1].end > recording.seconds + 0.1:
            bad.add(
                line.number,
                f"{' '.join(line.words[-1].spelt)!r} ends at {line.words[-1].end:g} s, "
                f"{line.audio} lasts {recording.seconds:.2f} s",
            )
    for line in lines:
        if line.evidence and max(line.evidence) >= len(found.get(line.audio, ())):
            bad.add(
                line.number, f"has evidence {max(line.evidence)}, a word that {line.audio} lacks"
            )
    return found


def _wanted(
    file: Path,
    lines: Sequence[RecordingLine],
    recordings: dict[str, Recording],
    words: dict[str, tuple[SpokenWord, ...]],
    tasks: Sequence[str],
) -> dict[str, Heard]:
    """All that is said of each recording, of the texts that are to be learnt."""
    texts: dict[str, list[RecordingText]] = {}
    for line in lines:
        said = texts_of(line, words.get(line.audio, ()))
        wanted = [text for text in said if ("question" if text.answer else "caption") in tasks]
        texts.setdefault(line.audio, []).extend(wanted)
    if not any(texts.values()):
        raise DataError(f"{file.name} has no text for data.tasks {' '.join(tasks)}")
    return {
        path: Heard(recordings[path], words.get(path, ()), tuple(own))
        for path, own in texts.items()
        if own
    }


def _divided(heard: dict[str, tuple[str, Heard]]) -> Parts:
    """Recordings by the part that they are in."""
    named = [split for split, _ in heard.values()]
    hashes = [one.recording.hash for _, one in heard.values()]
    what = "recording"
    chosen = by_column(named, hashes, what) if any(named) else by_share(hashes, what)
    parts: Parts = {name: [] for name in ("train", "validation", "test")}
    for part, (_, one) in zip(chosen, heard.values(), strict=True):
        parts.setdefault(part, []).append(one)
    return parts


def _fingerprint(parts: Parts) -> str:
    """Eight letters that change when a text, what it is about, a part or a recording changes."""
    said = [
        (
            part,
            one.recording.hash,
            one.words,
            [(text.tokens, *map(sorted, text.about)) for text in one.texts],
        )
        for part, every in parts.items()
        for one in every
    ]
    return hashlib.blake2b(repr(said).encode(), digest_size=4).hexdigest()


RECORDINGS = Source(
    "recordings", _load, RecordingsData, image_encoders={"frames": 1, "features": 1}
)
