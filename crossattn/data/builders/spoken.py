"""The set `spoken`: recorded words behind one another, and questions about their order.

A sixth of all pairs (a word, the word behind it) stand in no recording but those of the split
`pairs`, whose questions are about such a pair: each word has as many of them, in front and behind.
"""

import dataclasses
import json
import wave
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from crossattn.data.audio import read_sound
from crossattn.data.builders.builder import Builder, BuildSettings, Package
from crossattn.data.builders.spoken_words import (
    RATE,
    SHARE,
    WORDS,
    Spoken,
    draw_spoken,
    held_out,
    trimmed,
)
from crossattn.data.errors import DataError
from crossattn.fields import positive
from crossattn.shapes import Float

__all__ = ["SPOKEN", "SpokenSettings", "compose_set"]

ORDER = ("first", "second", "third", "fourth", "fifth", "sixth")
PARTS = ("train", "validation", "test", "pairs")


@dataclasses.dataclass(frozen=True)
class SpokenSettings(BuildSettings):
    """Settings of `spoken`."""

    images: int = 2_000
    """Number of recordings to train on."""
    evaluation_images: int = 300
    """Number of recordings of test and of pairs; validation has a quarter as many."""

    def __post_init__(self):
        super().__post_init__()
        positive("", evaluation_images=self.evaluation_images)


def _questions(
    spoken: Spoken, rng: np.random.Generator, known: list[str]
) -> Iterator[dict[str, Any]]:
    """One of each kind: order, after, before, exist, count; with the words that show the answer."""
    words, every = spoken.words, list(range(len(spoken.words)))
    place = int(rng.integers(len(words)))
    yield _asked("order", f"which word is {ORDER[place]}?", words[place], [place])
    place = int(rng.integers(1, len(words)))
    yield _asked("after", f"what is said after {words[place - 1]}?", words[place], [place])
    place = int(rng.integers(1, len(words)))
    yield _asked("before", f"what is said before {words[place]}?", words[place - 1], [place - 1])
    if rng.integers(2):
        place = int(rng.integers(len(words)))
        yield _asked("exist", f"is {words[place]} said?", "yes", [place])
    else:
        others = [word for word in known if word not in words]
        yield _asked("exist", f"is {others[rng.integers(len(others))]} said?", "no", every)
    yield _asked("count", "how many words are said?", str(len(words)), every)


def _pair_questions(spoken: Spoken, apart: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """What is said after and before the words of the pair that training has not."""
    for place, (first, second) in enumerate(pairwise(spoken.words)):
        if (first, second) in apart:
            yield _asked("after", f"what is said after {first}?", second, [place + 1])
            yield _asked("before", f"what is said before {second}?", first, [place])


def _asked(kind: str, question: str, answer: str, evidence: list[int]) -> dict[str, Any]:
    return {"kind": kind, "question": question, "answer": answer, "evidence": evidence}


def compose_set(
    out: Path, voice: Mapping[str, Float[np.ndarray, " N"]], settings: SpokenSettings
) -> None:
    """Write recordings and their file of texts into a folder.

    Args:
        out: an empty folder.
        voice: samples of each word at 8 kHz, twelve words or more.
        settings: how many, and the seed that all follows from.

    Raises:
        DataError: too few words to hold pairs out.
    """
    if len(voice) < 2 * SHARE:
        raise DataError(f"expected recordings of {2 * SHARE} words or more, got {len(voice)}")
    seed, judged = settings.seed, settings.evaluation_images
    known = list(voice)
    apart = held_out(known, np.random.default_rng([seed, len(PARTS)]))
    counts = (settings.images, max(judged // 4, 1), judged, judged)
    (out / "audio").mkdir()
    with (out / "texts.jsonl").open("w", encoding="utf-8") as file:
        for number, (part, count) in enumerate(zip(PARTS, counts, strict=True)):
            rng = np.random.default_rng([seed, number])
            for index in range(count):
                spoken = draw_spoken(voice, rng, apart, pair=part == "pairs")
                audio = f"audio/{part}-{index:05}.wav"
                _write_wave(out / audio, spoken.samples)
                if part == "pairs":
                    first, *others = _pair_questions(spoken, apart)
                else:
                    first, *others = _questions(spoken, rng, known)
                    first["caption"] = " ".join(spoken.words)
                own = {"audio": audio, "split": part}
                for line in (spoken.said() | first, *others):
                    file.write(json.dumps(own | line) + "\n")


def _write_wave(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())


def write_spoken(sounds: Path, directory: Path, settings: SpokenSettings) -> str:
    """Write the set into an empty folder, from the folder of the English voice."""
    voice = {word: trimmed(read_sound(sounds / file, RATE)) for word, file in WORDS.items()}
    compose_set(directory, voice, settings)
    return f"recordings of three to six of {len(voice)} words, with the times of all words"


def _licences(sounds: Path) -> str:
    """What the set is under, and the package's own file where it lies beside the sounds."""
    own = sounds.parents[2] / "doc/asterisk-core-sounds-en-wav/copyright"
    text = own.read_text(encoding="utf-8") if own.is_file() else ""
    return (
        "These recordings are composed of words spoken by Allison Smith for Asterisk "
        "(asterisk-core-sounds-en-wav),\nCreative Commons Attribution-ShareAlike 3.0; the words "
        "have been cut out, scaled and put behind one another.\nWhat is made of them is under the "
        f"same licence. https://www.asterisk.org\n\n{text}"
    )


INSTALLED = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
SPOKEN = Builder(
    "spoken",
    "recorded words behind one another (Asterisk, CC-BY-SA 3.0), exact times, held-out pairs",
    Package(
        "Debian's asterisk-core-sounds-en-wav",
        "apt-get install asterisk-core-sounds-en-wav",
        str(INSTALLED.relative_to("/")),
        "phonetic/a_p.wav",
        lambda: INSTALLED if INSTALLED.is_dir() else None,
    ),
    write_spoken,
    _licences,
    SpokenSettings,
)
