"""Write down what is said in a file of sound, word by word with its times if asked.

python -m experiments.transcribe speech.wav
python -m experiments.transcribe speech.wav --words
python -m experiments.transcribe speech.wav --timestamps
python -m experiments.transcribe speech.wav --json
python -m experiments.transcribe speech.wav --heads
python -m experiments.transcribe rede.flac --model whisper-base --language de --beams 5
"""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from crossattn.align.tokens_in_time import TimedWord
from crossattn.data.audio import RATE, read_sound
from crossattn.data.audio.spectrogram import FRAMES_PER_SECOND
from crossattn.data.errors import DataError
from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.lab.speech import load_transcriber, transcribe_words
from crossattn.lab.speech_heads import SpeechHeads, find_speech_heads
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.models.generate import Greedy
from crossattn.pretrained.sound_windows import SECONDS
from crossattn.pretrained.transcriber import WHISPER_BEAM, Segment, Transcriber

from .command_line import fail, manual, parse, plain_errors, takes
from .entry import start

COMMAND = "transcribe"
EXPECTED = (DataError, WeightsError, ModuleNotFoundError)
NOTHING_LOST = "interrupted; nothing was written"
# Of more, the scores of all next words are numbers of gigabytes.
MOST_BEAMS = 1_000


@dataclasses.dataclass(frozen=True)
class TranscribeOptions:
    """Print the text of a recording, by a published model of speech.

    WAV is read by itself; FLAC, OGG, MP3 and others, and the tokenizers of models, need
    pip install 'crossattn[pretrained]'.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The sound, of any length."""
    model: Annotated[str, takes("NAME or FOLDER")] = "whisper-tiny.en"
    """Whisper: whisper-tiny.en or whisper-base of packages from PyPI, or a folder."""
    words: bool = False
    """A line for each word: from when to when it is spoken, and how sure the model is."""
    json: bool = False
    """All of it as JSON: text, language, segments and words."""
    timestamps: bool = False
    """The model's own: a line for each of its sentences, or segments of --json."""
    heads: bool = False
    """A line for each head: does it listen to the word that is written, and is it of use?"""
    language: Annotated[str | None, takes("CODE", "the likeliest")] = None
    """Of a multilingual model: en, de, ja ..."""
    translate: bool = False
    """Into English, by a multilingual model."""
    beams: int = 1
    """Texts that grow side by side; 5 is what Whisper was published with."""


def main(arguments: list[str]) -> None:
    """Parse, read, transcribe, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, TranscribeOptions(tyro.MISSING), arguments or ["--help"])
    if options.words + options.json + options.heads > 1:
        fail(COMMAND, "--words, --json and --heads: give one of them")
    if options.timestamps and (options.words or options.heads):
        fail(COMMAND, "--timestamps are those of sentences: leave --words and --heads out")
    if not 1 <= options.beams <= MOST_BEAMS:
        fail(COMMAND, f"--beams must be at least 1 and at most {MOST_BEAMS}, got {options.beams}")
    beam = dataclasses.replace(WHISPER_BEAM, width=options.beams)
    strategy = Greedy() if options.beams == 1 else beam
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        sound = read_sound(options.file)
        model = load_transcriber(options.model)
        task = "translate" if options.translate else "transcribe"
        check_speech(COMMAND, model, options.language, task, timestamps=options.timestamps)
        settings: dict[str, Any] = {"language": options.language, "task": task}
        settings |= {"strategy": strategy, "progress": progress(len(sound) / RATE)}
        if options.heads:
            found = find_speech_heads(model, sound, **settings)
            print(head_lines(found, model.alignment_heads))
            return
        if options.timestamps:
            transcript = model.transcribe(sound, timestamps=True, **settings)
            lines = segment_lines(transcript.segments)
            print(_json(options, transcript, []) if options.json else lines)
            return
        if not (options.words or options.json):
            print(model.transcribe(sound, **settings).text)
            return
        transcript, words = transcribe_words(model, sound, **settings)
        every = [word for segment in words for word in segment]
        print(_json(options, transcript, every) if options.json else word_lines(every))


def check_speech(
    command: str,
    model: Transcriber,
    language: str | None,
    task: str,
    *,
    timestamps: bool = False,
) -> None:
    """End the command where the model does not know what is asked of it, or sounds of 30 s."""
    room = 2 * model.model.encoder.length
    if room < SECONDS * FRAMES_PER_SECOND:
        seconds = f"{room / FRAMES_PER_SECOND:g} s of sound"
        fail(command, f"this model has positions for {seconds}, and {SECONDS:g} s are read at once")
    if language is None and model.special.languages:
        language = next(iter(model.special.languages))
    try:
        model.special.prompt(language, task, timestamps=timestamps)
    except ValueError as error:
        fail(command, str(error))


def progress(seconds: float) -> Any:
    """Says on the standard error how far a long sound is; nothing of one segment."""

    def say(start: float, end: float) -> None:
        if end < seconds or start > 0:
            print(f"{COMMAND}: {start:.0f} to {end:.0f} of {seconds:.0f} s", file=sys.stderr)

    return say


def word_lines(words: list[TimedWord]) -> str:
    """A table: word, from, to, confidence.

    Example:
      >>> print(word_lines([TimedWord("Hello,", 0.52, 0.9, 0.971, (0,))]))
        from      to  confidence  word
        0.52    0.90        0.97  Hello,
    """
    lines = [f"{'from':>6} {'to':>7}  confidence  word"]
    for word in words:
        times = f"{word.start:6.2f} {word.stop:7.2f} {word.confidence:11.2f}"
        lines.append(f"{times}  {printable(word.text)}")
    return "\n".join(lines)


def segment_lines(segments: Sequence[Segment]) -> str:
    """A table: from, to, text.

    Example:
      >>> import numpy as np
      >>> print(segment_lines([Segment(0.0, 2.56, (), np.array([7]), "Hello.", -1.0, None)]))
        from      to  text
        0.00    2.56  Hello.
    """
    lines = [f"{'from':>6} {'to':>7}  text"]
    return "\n".join(
        [*lines, *(f"{s.start:6.2f} {s.end:7.2f}  {printable(s.text)}" for s in segments)]
    )


def head_lines(found: SpeechHeads, published: Sequence[tuple[int, int]]) -> str:
    """A table of heads, those that point best first; * marks those that align words.

    Example:
      >>> import numpy as np
      >>> from crossattn.align import HeadScores
      >>> one = lambda *numbers: [np.array([[number]]) for number in numbers]
      >>> points = HeadScores(*one(0.9, 0.7, 0.97), 0.1, 20)
      >>> drops = HeadScores(*one(0.5, 0.2, 0.8), 0.0, 20)
      >>> print(head_lines(SpeechHeads(points, drops), [(0, 0)]))
      layer  head  points at its word   drop when it does not hear it
          0     0* 0.90 (0.70 to 0.97)   0.50 (0.20 to 0.80)
      20 tokens, chance of pointing 0.10; 95 % intervals; * aligns words
    """
    lines = ["layer  head  points at its word   drop when it does not hear it"]
    for layer, head in found.points.ranked():
        mark = "*" if (layer, head) in published else " "
        cells = [
            "{:.2f} ({:.2f} to {:.2f})".format(*(round(x[layer, head], 2) + 0.0 for x in numbers))
            for numbers in ((one.score, one.low, one.high) for one in (found.points, found.drops))
        ]
        lines.append(f"{layer:5d} {head:5d}{mark} {'   '.join(cells)}")
    chance = f"chance of pointing {found.points.chance:.2f}"
    return "\n".join(
        [*lines, f"{found.points.words} tokens, {chance}; 95 % intervals; * aligns words"]
    )


def _json(options: TranscribeOptions, transcript: Any, words: list[TimedWord]) -> str:
    content = {
        "file": str(options.file),
        "model": options.model,
        "language": transcript.language,
        "text": transcript.text,
        "segments": [
            {"start": segment.start, "end": segment.end, "text": segment.text}
            for segment in transcript.segments
        ],
        "words": [
            {"word": w.text, "start": w.start, "stop": w.stop, "confidence": w.confidence}
            for w in words
        ],
    }
    return json.dumps(content, indent=2)


if __name__ == "__main__":
    start(main)
