"""Write what the encoder of a published model makes of recordings, as context for runs.

python -m experiments.encode whisper-tiny.en data/spoken data/spoken/whisper
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from crossattn.data.errors import DataError
from crossattn.data.recordings.source import RecordingsData
from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.pretrained import load_model
from crossattn.pretrained.recorded_features import write_recorded_features
from crossattn.pretrained.transcriber import Transcriber

from .command_line import fail, manual, parse, plain_errors
from .entry import start

COMMAND = "encode"
PARTS_STAY = "interrupted; files that are there are whole, the same command begins anew"


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """Write NAME.npy for each part of a folder of recordings: a token for each stretch of time.

    Runs read them with --model.image-encoder features --data.features FOLDER, with the same
    --data.token-frames and numbers of recordings.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A folder of a model of speech, or a name such as whisper-tiny.en."""
    directory: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The folder of recordings, see docs/your_data.md."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the files go."""
    token_frames: int = RecordingsData.token_frames
    """Frames of 10 ms that a token of the context is made of; an even number."""


def main(arguments: list[str]) -> None:
    """Parse, load, encode, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    default = EncodeOptions(tyro.MISSING, tyro.MISSING, tyro.MISSING)
    options = parse(COMMAND, default, arguments or ["--help"])
    safe = lambda: PARTS_STAY
    expected = (DataError, WeightsError, ValueError)
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, expected, safe=safe):
        model = load_model(options.model)
        if not isinstance(model, Transcriber):
            fail(COMMAND, f"{options.model} is no model of speech")
        data = RecordingsData(
            "recordings",
            directory=str(options.directory),
            token_frames=options.token_frames,
            slices=1,
        )
        count = write_recorded_features(model, data, options.out)
        print(
            printable(
                f"{count:,} recordings in {options.out}: read them with --model.image-encoder "
                f"features --data.features {options.out}"
            )
        )


if __name__ == "__main__":
    start(main)
