"""Write what is on a picture, or answer a question about it, with a published model.

python -m experiments.caption photo.jpg --model blip-image-captioning-base
python -m experiments.caption photo.jpg --model blip-image-captioning-base --explore words.html
python -m experiments.caption photo.jpg --model blip-vqa-base --question "what colour is it?"
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import tyro

from crossattn import viewer
from crossattn.data.errors import DataError
from crossattn.data.pictures import read_upright
from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.models.generate import Beam, Greedy
from crossattn.pretrained import load_model
from crossattn.pretrained.captioner import LENGTH, Captioner

from .command_line import check_page, fail, manual, parse, plain_errors, takes
from .entry import start

COMMAND = "caption"
MODELS = "BlipForConditionalGeneration writes captions, BlipForQuestionAnswering answers questions"


@dataclasses.dataclass(frozen=True)
class CaptionOptions:
    """Print a caption of a picture, or the answer to a question about it.

    A model is the folder of a published BLIP: config.json, weights in safetensors, tokenizer.json
    and preprocessor_config.json, as its authors ship it. Nothing is downloaded.
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """The picture: PNG, JPEG, WEBP, GIF, BMP, TIFF or PPM."""
    model: Annotated[
        Path | None, tyro.conf.arg(metavar="FOLDER", help_behavior_hint="(required)")
    ] = None
    """The folder of the model."""
    question: Annotated[str | None, takes("TEXT", "none: a caption")] = None
    """What to answer, of a model that answers questions."""
    prompt: Annotated[str, takes("TEXT", "none")] = ""
    """How the caption begins, such as "a photo of"."""
    beams: Annotated[int, takes("INT", "1: always the most likely word")] = 1
    """Texts that grow side by side, of which the best is printed."""
    length: int = LENGTH
    """Words, or pieces of words, that are written at most."""
    explore: Annotated[Path | None, takes("FILE", "none")] = None
    """Where to write a page on which each word lights up the regions it looked at."""


def main(arguments: list[str]) -> None:
    """Parse, read, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, CaptionOptions(tyro.MISSING), arguments or ["--help"])
    if options.model is None:
        fail(COMMAND, f"no --model given: the folder of a published BLIP; {MODELS}")
    for name, value in (("--beams", options.beams), ("--length", options.length)):
        if value < 1:
            fail(COMMAND, f"{name} must be at least 1, got {value}")
    if options.question is not None and options.prompt:
        fail(COMMAND, "--prompt begins a caption: leave it out with --question")
    if options.explore is not None:
        check_page(COMMAND, "--explore", options.explore, options.file)
    safe = lambda: "interrupted; nothing was written"
    errors = (WeightsError, DataError)
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, errors, safe=safe):
        write(options, options.model)


def write(options: CaptionOptions, folder: Path) -> None:
    """Print the text, and write the page where one is asked for."""
    picture = read_upright(options.file)
    model = load_model(folder)
    if not isinstance(model, Captioner):
        fail(COMMAND, f"{folder} is a {type(model).__name__}, which writes no text: {MODELS}")
    strategy = Greedy() if options.beams == 1 else Beam(options.beams)
    if options.question is None:
        found = model.caption(picture, options.prompt, length=options.length, strategy=strategy)
    else:
        found = model.answer(picture, options.question, length=options.length, strategy=strategy)
    print(printable(found.text))
    if options.explore is not None:
        asked = "" if options.question is None else f"{options.question} "
        page = viewer.explore(found.example(), title=f"{options.file.name}: {asked}{found.text}")
        options.explore.parent.mkdir(parents=True, exist_ok=True)
        page.save(options.explore)
        print(f"page: {printable(options.explore)}", file=sys.stderr)


if __name__ == "__main__":
    start(main)
