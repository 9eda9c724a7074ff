"""Make a page on which the words of a trained run light up the regions that they attend to.

python -m experiments.explore results/fusion
python -m experiments.explore results/fusion --variant resampler --seed 0 --examples 8
python -m experiments.explore results/fusion --variant resampler --compare cross-attention
python -m experiments.explore results/fusion/runs/resampler/seed0/checkpoints/400 --split pairs
python -m experiments.explore speech.wav --model whisper-tiny.en
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.data.audio import read_sound
from crossattn.data.errors import DataError
from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.lab.exploration import explore_folder, find_shown
from crossattn.lab.speech import explore_sound, load_transcriber
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.train.checkpoint import CheckpointError
from crossattn.train.record import RecordError
from crossattn.train.trained import UnusableRunError

from .command_line import check_page, fail, manual, parse, plain_errors, takes
from .entry import start
from .transcribe import check_speech

COMMAND = "explore"
RUNS = (RecordError, CheckpointError, DataError, UnusableRunError, ModuleNotFoundError)
EXPECTED = (*RUNS, WeightsError)
NOTHING_LOST = "interrupted; the run is as it was, and no page was written"


@dataclasses.dataclass(frozen=True)
class ExploreOptions:
    """Make explore.html of a trained run: one file, which any browser opens without a network.

    Held-out texts of every kind, drawn from a fixed seed: click a word and see where it looks, in
    every layer and head, and what the model says without the region. The run is only read.

    Of a file of sound: what a published model of speech writes about it, and where it listens.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a run or its run.json, of a suite, or of one checkpoint; or a file of sound."""
    variant: Annotated[str | None, takes("NAME", "the first that looks at patches")] = None
    """Which variant of a suite's folder."""
    seed: Annotated[int | None, takes("INT", "0")] = None
    """Which seed of a suite's folder."""
    examples: int = 8
    """How many texts, all kinds in turn."""
    split: Annotated[str | None, takes("SPLIT", "the main split")] = None
    """Which split they are from."""
    compare: Annotated[str | None, takes("VARIANT or RUN", "none")] = None
    """Another variant of the suite, or another run on the same data, side by side."""
    out: Annotated[
        Path | None,
        takes("FILE", "explore.html, or explore-stepN.html of a checkpoint, in the run's folder"),
    ] = None
    """Where the page goes; of speech.wav to speech.html."""
    model: Annotated[str | None, takes("NAME or FOLDER", "whisper-tiny.en")] = None
    """Which model listens to a file of sound."""
    language: Annotated[str | None, takes("CODE", "the likeliest")] = None
    """What is spoken in it, for a multilingual model."""


def main(arguments: list[str]) -> None:
    """Parse, restore, look, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, ExploreOptions(tyro.MISSING), arguments or ["--help"])
    say = lambda message: print(f"{COMMAND}: {message}", file=sys.stderr)
    safe = lambda: NOTHING_LOST
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, EXPECTED, safe=safe):
        if options.run.is_file() and options.run.suffix != ".json":
            _explore_file(options, say)
            return
        if options.model or options.language:
            fail(COMMAND, "--model and --language are of a file of sound, and this is none")
        folder, step = find_shown(options.run, options.variant, options.seed)
        name = "explore.html" if step is None else f"explore-step{step}.html"
        out = options.out or folder / name
        check_page(COMMAND, "--out", out, options.run)
        page = explore_folder(
            options.run,
            options.variant,
            options.seed,
            options.examples,
            options.compare,
            split=options.split,
            notify=say,
        )
        out.parent.mkdir(parents=True, exist_ok=True)
        page.save(out)
        print(f"page: {printable(out)}")


def _explore_file(options: ExploreOptions, say: Callable[[str], None]) -> None:
    """Read, listen, look, write, print."""
    default = ExploreOptions(options.run)
    for name in ("variant", "seed", "examples", "split", "compare"):
        if getattr(options, name) != getattr(default, name):
            fail(COMMAND, f"--{name} is of a run, and {options.run} is a file")
    out = options.out or options.run.with_suffix(".html")
    check_page(COMMAND, "--out", out, options.run)
    sound, model = read_sound(options.run), load_transcriber(options.model or "whisper-tiny.en")
    check_speech(COMMAND, model, options.language, "transcribe")
    title, language = options.run.name, options.language
    page = explore_sound(model, sound, title=title, notify=say, language=language)
    out.parent.mkdir(parents=True, exist_ok=True)
    page.save(out)
    print(f"page: {printable(out)}")


if __name__ == "__main__":
    start(main)
