"""Folders of small recordings with a file of texts: words are tones, each of its own height."""

import json
import wave

import numpy as np

RATE = 8_000
WORDS = (
    *("alpha", "bravo", "charlie", "delta", "echo", "foxtrot"),
    *("golf", "hotel", "india", "juliet", "kilo", "lima"),
)
# The frequency of each word.
TONES = {word: 300 + 130 * number for number, word in enumerate(WORDS)}


def tone(word, seconds=0.3):
    """A word of so many seconds, its peak at 1."""
    return np.sin(2 * np.pi * TONES[word] * np.arange(round(seconds * RATE)) / RATE)


def spoken(words, silence=0.1):
    """The samples of words with silence around each, and their times."""
    parts, said, now = [], [], 0.0
    for word in words:
        parts += [np.zeros(round(silence * RATE)), 0.5 * tone(word)]
        start = now + silence
        said.append({"word": word, "start": round(start, 3), "end": round(start + 0.3, 3)})
        now = said[-1]["end"]
    return np.concatenate([*parts, np.zeros(round(silence * RATE))]), said


def write_wave(path, samples, rate=RATE):
    """A WAV file of 16 bits."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.rint(samples * 32_767).astype("<i2").tobytes())


def lines_of(count):
    """Lines of recordings 0.wav and so on, of three words each, and the samples of each."""
    rng, lines, samples = np.random.default_rng(0), [], []
    for number in range(count):
        words = [str(word) for word in rng.permutation(list(TONES))[:3]]
        sound, said = spoken(words, silence=0.1 + 0.01 * number)
        samples.append(sound)
        lines.append({"audio": f"{number}.wav", "caption": " ".join(words), "words": said})
        lines.append({"audio": f"{number}.wav", "question": f"what is said after {words[0]}?",
                      "answer": words[1], "kind": "after", "evidence": [1]})  # fmt: skip
    return lines, samples


def write_folder(path, count=10, change=lambda lines: lines):
    """A folder of recordings and their file; `change` is made to its lines."""
    path.mkdir(parents=True, exist_ok=True)
    lines, samples = lines_of(count)
    for number, sound in enumerate(samples):
        write_wave(path / f"{number}.wav", sound)
    text = "".join(f"{json.dumps(line)}\n" for line in change(lines))
    (path / "texts.jsonl").write_text(text)
    return path
