"""Recordings that are read and divided become examples."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.data.folder.about import about_parts
from crossattn.data.recordings.drawing import outlines, spectrograms
from crossattn.data.recordings.lines import SpokenWord
from crossattn.data.recordings.sounds import Frames, Recording, pad_with_silence, word_coverage
from crossattn.data.recordings.texts import RecordingText, Vocabulary

__all__ = ["Heard", "Parts", "assemble", "tokens_needed"]

# A token belongs to a word from this share of its time on.
COVERED = 0.1


class Heard(NamedTuple):
    """A recording with all that is said of it."""

    recording: Recording
    words: tuple[SpokenWord, ...]
    texts: tuple[RecordingText, ...]


Parts = dict[str, list[Heard]]


def tokens_needed(parts: Parts) -> int:
    """P: tokens of the longest recording of all parts, the silence behind it included."""
    return max(len(one.recording.tokens) for own in parts.values() for one in own)


def assemble(file: Path, parts: Parts, frames: Frames) -> Dataset:
    """The data of recordings that are divided into parts.

    Raises:
        DataError: a part has no recording.
    """
    texts = {name: [text for one in own for text in one.texts] for name, own in parts.items()}
    judged = [text for name, own in texts.items() if name != "train" for text in own]
    vocabulary = Vocabulary.of(texts["train"], judged)
    every = [one for own in parts.values() for one in own]
    count = tokens_needed(parts)
    things = max(1, *(len(one.words) for one in every))
    found = {}
    for name, own in parts.items():
        if not own:
            raise DataError(f"{file.name}: no recording of {name} is left to be read")
        shares = word_coverage([one.words for one in own], frames, count)
        texts_each = [len(one.texts) for one in own]
        found[name] = Examples(
            images=pad_with_silence([one.recording for one in own], count),
            coverage=np.pad(shares, ((0, 0), (0, things - shares.shape[1]), (0, 0))),
            image=np.repeat(np.arange(len(own), dtype=np.int32), texts_each),
            grid=(1, count),
            covered=COVERED,
            **vocabulary.rows(texts[name], things),
        )
    draw = lambda own: lambda chosen: spectrograms(own[chosen], frames)
    said = lambda own, chosen: [own[int(number)].words for number in chosen]
    outline = lambda own: lambda chosen: outlines(said(own, chosen), frames, count)
    return Dataset(
        found["train"],
        {name: part for name, part in found.items() if name != "train"},
        main="test",
        draw={name: draw(part.images) for name, part in found.items()},
        outline={name: outline(own) for name, own in parts.items()},
        about=_about(file, parts, frames, count),
        parts_about=about_parts(found),
    )


def _about(file: Path, parts: Parts, frames: Frames, count: int) -> str:
    """What the data are, in sentences; what `patch`, `region` and `picture` mean here."""
    every = [one for own in parts.values() for one in own]
    texts = [text for one in every for text in one.texts]
    asked = sum(bool(text.answer) for text in texts)
    told = [
        f"{n:,} {what}" for n, what in ((len(texts) - asked, "captions"), (asked, "questions")) if n
    ]
    timed = sum(bool(one.words) for one in every)
    times = f"the times of the words of {timed:,} of them are known"
    if not timed:
        times = "no times of words are known, so that nothing says where words should look"
    return (
        f"They are {len(every):,} recordings of {file}, with {' and '.join(told)}; {times}. A "
        f"patch of this report is a stretch of {1_000 * frames.seconds:g} ms, {count} of them in a "
        "recording with the silence behind it; a region is the time of a word; a picture is a "
        "spectrogram, with time from left to right and low sounds below."
    )
