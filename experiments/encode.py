"""Write what the encoder of a published model makes of pictures or recordings, once.

python -m experiments.encode my/vit data/stamps data/stamps-vit
python -m experiments.encode my/clip easy_vqa data/easy-vqa-clip
python -m experiments.encode my/clip data/coco data/coco-clip --data.source coco_captions
python -m experiments.encode whisper-tiny.en data/spoken data/spoken-whisper
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from crossattn.data.dataset import Dataset
from crossattn.data.errors import DataError
from crossattn.data.sources import SOURCES, Data, find_source, load_source
from crossattn.files import printable
from crossattn.interop.files import WeightsError
from crossattn.launch.interrupts import graceful_interrupt
from crossattn.pretrained import Checkpoint, load_model
from crossattn.pretrained.encoded_features import Frozen, encode_parts, of_pictures, of_sounds
from crossattn.pretrained.packages import PACKAGES
from crossattn.pretrained.picture_encoder import PictureEncoder
from crossattn.pretrained.transcriber import Transcriber

from .command_line import fail, manual, parse, plain_errors, value_of
from .entry import start

COMMAND = "encode"
ROWS_STAY = "interrupted; what is encoded stays, the same command goes on"


@dataclasses.dataclass(frozen=True)
class EncodeOptions:
    """Write NAME.npy for each part of a set: a vector for each patch, or stretch of sound.

    Runs of any suite read them with --model.image-encoder features --data.features FOLDER, and the
    same options of the data. Regions of words are those of the patches; what a model crops off has
    none. The same command goes on where it was killed; those of other models or sets are refused.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A folder of a model of pictures (ViT, CLIP, SigLIP, BLIP, BLIP-2) or of speech, or a name
    such as whisper-tiny.en."""
    directory: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """The folder of pictures or recordings, see docs/your_data.md, or of the published set that
    --data.source names; or scenes, or easy_vqa."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Where the files go."""
    data: Data = dataclasses.field(default_factory=lambda: Data("folder"))
    """What of them is read, and how."""


def main(arguments: list[str]) -> None:
    """Parse, load, encode, print."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{manual(__doc__)}", flush=True)
    safe = lambda: ROWS_STAY
    expected = (DataError, WeightsError)
    with graceful_interrupt(COMMAND, safe), plain_errors(COMMAND, expected, safe=safe):
        data = _settings(_source(arguments))
        default = EncodeOptions(tyro.MISSING, tyro.MISSING, tyro.MISSING, data)
        options = parse(COMMAND, default, arguments or ["--help"])
        model = load_model(options.model)
        if not isinstance(model, Transcriber):
            model = getattr(model, "tower", model)
        sounds = options.data.source == "recordings"
        if sounds and not isinstance(model, Transcriber):
            fail(COMMAND, f"{options.model} is no model of speech")
        if not sounds and not isinstance(model, PictureEncoder):
            fail(COMMAND, f"{options.model} has no tower for pictures")
        dataset = _load(options)
        originals = {name: dataset.original(name) for name in dataset.held}
        count = encode_parts(_frozen(model, options, dataset), originals, options.out)
        print(
            printable(
                f"{count:,} {'recordings' if sounds else 'pictures'} in {options.out}: read them "
                f"with --model.image-encoder features --data.features {options.out}"
            )
        )


def _settings(source: str) -> Data:
    """Those of a source; one that cannot be ends the command."""
    try:
        return Data(source)
    except ValueError as error:
        fail(COMMAND, str(error))


def _source(arguments: Sequence[str]) -> str:
    """The source that is named, or that the place of the data or the model tells, unread."""
    model, place = (*arguments[:2], "", "")[:2]
    if place in SOURCES and not Path(place).exists():
        return place
    return value_of(arguments, "--data.source") or ("recordings" if _hears(model) else "folder")


def _hears(model: str) -> bool:
    """Whether a model is one of speech, as far as its name or its config.json says so."""
    if model in PACKAGES:
        return True
    try:
        return Checkpoint(model).config.get("model_type") == "whisper"
    except WeightsError:  # which is said when it is loaded
        return False


def _load(options: EncodeOptions) -> Dataset:
    data: Any = options.data
    if "features" not in find_source(data.source).image_encoders:
        known = [name for name in SOURCES if "features" in find_source(name).image_encoders]
        fail(COMMAND, f"data.source {data.source}: choose one of {', '.join(known)}")
    if "directory" in find_source(data.source).fields():
        data = dataclasses.replace(data, directory=options.directory)
    return load_source(data, "frames" if data.source == "recordings" else "patch")


def _frozen(model: Any, options: EncodeOptions, dataset: Dataset) -> Frozen:
    name = Path(options.model).name
    if isinstance(model, PictureEncoder):
        return of_pictures(model, name)
    data: Any = options.data
    return of_sounds(model, name, dataset.splits[dataset.main].grid[1], data.token_frames)


if __name__ == "__main__":
    start(main)
