"""A prepared TFDS directory as the data of a run: a stream to train on, splits in memory.

`train` is trained on; `validation` and `test` are what the directory calls so. Where it has no
`validation` or no `test`, or one without questions that have answers (the test questions of many
published sets have none), the part is set aside:

* neither there: every tenth picture of `train` for each, see `survey`;
* one there, the other not: `validation` is set aside from `train`; `test` is the second of every
  two records of the `validation` that is there, which then keeps the first.
"""

import dataclasses
import itertools

import numpy as np

from crossattn.data.dataset import Dataset
from crossattn.data.errors import DataError
from crossattn.data.examples import Examples
from crossattn.data.picture_texts import Geometry, ResizedData, read_examples
from crossattn.data.samples import SEED
from crossattn.data.sources import Settings, Source
from crossattn.data.stream import StreamedRecords
from crossattn.data.survey import Survey
from crossattn.data.tfds import records
from crossattn.data.tfds.columns import Columns, Names, columns
from crossattn.data.tfds.survey import survey
from crossattn.data.tfds.text import Reader, Split

__all__ = ["TFDS", "Parts", "TfdsData", "divide"]

# Names that published sets give to the split that settings are chosen on.
VALIDATION = ("validation", "val", "valid", "dev")
# Records of a split that are looked at for an answer, before it is said to have none.
LOOKED_AT = 100


@dataclasses.dataclass(frozen=True)
class TfdsData(ResizedData):
    """Settings of `tfds`."""

    directory: str = ""
    """Prepared TFDS directory, that of one version: with dataset_info.json and shards."""
    image_feature: str = ""
    """Path of the picture among the features; found by its name when not given."""
    question_feature: str = ""
    """Path of the question, like question_answer/question; found when not given."""
    answer_feature: str = ""
    """Path of the answer; found beside the question when not given."""
    caption_feature: str = ""
    """Path of the caption, like captions/text; found by its name when not given."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """Where training and evaluation examples come from.

    Attributes:
        train: the records that `survey` has looked through.
        survey: what the training records hold, and which of them are set aside.
        evaluation: part to a split and the numbers of its records.
    """

    train: Split
    survey: Survey
    evaluation: dict[str, tuple[Split, np.ndarray]]


def _load(settings: Settings) -> Dataset:
    data: TfdsData = settings.data
    if not data.directory:
        raise DataError(
            "data.source tfds reads a prepared TFDS directory: name it with --data.directory DIR"
        )
    geometry = Geometry(data.image_size, settings.window)
    parts = divide(data)
    splits, masks = {}, {}
    for name, (split, numbers) in parts.evaluation.items():
        chosen = numbers[: data.evaluation_images or None]
        splits[name], masks[name] = read_examples(split, chosen, parts.survey, geometry)
        if parts.survey.asked:
            _check(data, name, splits[name])
    # One training record, to show: the others are read while a run trains.
    one = np.random.default_rng(SEED).choice(parts.survey.trained, size=1)
    sample, masks["train"] = read_examples(parts.train, one, parts.survey, geometry)
    return Dataset(
        StreamedRecords(parts.train, parts.survey, geometry),
        splits,
        main="test",
        outline={name: own.__getitem__ for name, own in masks.items()},
        about=_about(data),
        parts_about={name: _part_about(parts, name) for name in parts.evaluation},
        sample=sample,
    )


def _about(data: TfdsData) -> str:
    side = f"{data.image_size} x {data.image_size}"
    return (
        f"Pictures and texts of a prepared TFDS directory; pictures are squeezed into {side} "
        "pixels, and a word that spells the label of a box is about that box."
    )


def _part_about(parts: Parts, name: str) -> str:
    """Where the pictures of an evaluation split are from."""
    split, numbers = parts.evaluation[name]
    if split is parts.train:
        return "One in ten of the training pictures, set aside: nothing trains on them."
    if len(numbers) < len(split):
        return "Every second record of the validation split of the directory."
    return "A split of the directory, which nothing trains on."


def divide(data: TfdsData) -> Parts:
    """Find the parts of a directory, and read the texts to train on.

    Raises:
        DataError: there is no split `train`, it has no texts, or a part cannot be read.
    """
    info = records.prepared(data.directory).info
    names = Names(
        data.image_feature, data.question_feature, data.answer_feature, data.caption_feature
    )
    found = columns(info.features, names, data.tasks)
    reader = Reader(info.features, found)

    def split(name: str) -> Split:
        return Split(records.opened(data.directory, info, name), reader)

    train = split("train")
    there: dict[str, Split] = {}
    called = next((name for name in VALIDATION if name in info.splits), None)
    for part, name in (("validation", called), ("test", "test")):
        if name and name in info.splits and _asks(one := split(name), found):
            there[part] = one
    aside = tuple(part for part in ("validation", "test") if part not in there)
    if aside == ("test",):
        aside = ()
    texts = survey(train, aside, found.label_names, data.images)
    if not len(texts.trained):
        raise DataError(f"{data.directory}: its split train holds no text to learn")
    return Parts(train, texts, _evaluation(train, texts, there))


def _evaluation(
    train: Split, texts: Survey, there: dict[str, Split]
) -> dict[str, tuple[Split, np.ndarray]]:
    if "validation" in there and "test" not in there:
        both = there["validation"]
        return {
            "validation": (both, np.arange(0, len(both), 2)),
            "test": (both, np.arange(1, len(both), 2)),
        }
    return {
        part: (there[part], np.arange(len(there[part])))
        if part in there
        else (train, texts.held_out[part])
        for part in ("validation", "test")
    }


def _asks(split: Split, found: Columns) -> bool:
    """Whether a split has texts to be judged by: questions with answers, if the set has them."""
    first = itertools.islice(split, LOOKED_AT)
    return any(record.questions if found.question else record.captions for record in first)


def _check(data: TfdsData, name: str, examples: Examples) -> None:
    if not np.any(examples.answer):
        raise DataError(
            f"{data.directory}: its part {name} of {len(examples.images)} pictures has no question "
            "with an answer: raise data.evaluation_images"
        )


TFDS = Source("tfds", _load, TfdsData, image_encoders={"patch": 1, "window": 2, "conv": 1})
