"""Write the text decoder of a published model, and its tokenizer, for runs that start with it.

python -m experiments.decoder whisper-tiny.en data/whisper-decoder
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.pretrained import load_model
from crossattn.pretrained.text_decoders import write_decoder

from .command_line import manual, parse, plain_errors
from .entry import start

COMMAND = "decoder"
PARTS_STAY = "interrupted; files that are there are whole, the same command begins anew"


@dataclasses.dataclass(frozen=True)
class StartOptions:
    """Write decoder.npz and tokenizer.json of a published model.

    Runs read them with --initial FOLDER --data.tokenizer FOLDER, with the sizes of the model.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A folder of a model of speech, or a name such as whisper-tiny.en."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the files go."""


def main(arguments: list[str]) -> None:
    """Parse, load, write, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    options = parse(COMMAND, StartOptions(tyro.MISSING, tyro.MISSING), arguments or ["--help"])
    safe = lambda: PARTS_STAY
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, (WeightsError,), safe=safe):
        count = write_decoder(load_model(options.model), options.out)
        print(
            printable(
                f"{count:,} parameters in {options.out}: start runs with them by --initial "
                f"{options.out} --data.tokenizer {options.out}"
            )
        )


if __name__ == "__main__":
    start(main)
