"""A prepared TFDS directory as the data of a run: a stream to train on, splits in memory.

`train` is trained on; `validation` and `test` are what the directory calls so. Where it has no
`validation` or no `test`, or one without questions that have answers (the test questions of many
published sets have none), the part is set aside:

* neither there: every tenth picture of `train` for each, see `tfds_language.survey`;
* one there, the other not: `validation` is set aside from `train`; `test` is the second of every
  two records of the `validation` that is there, which then keeps the first.
"""

import dataclasses
import functools
import itertools

import numpy as np

from crossattn.data.examples import Examples
from crossattn.data.tfds import examples as tfds_examples
from crossattn.data.tfds import language as tfds_language
from crossattn.data.tfds import records as tfds_records
from crossattn.data.tfds import text as tfds_text
from crossattn.data.tfds.examples import Geometry
from crossattn.data.tfds.language import Survey
from crossattn.data.tfds.records import DataError
from crossattn.data.tfds.stream import RecordStream
from crossattn.data.tfds.text import Columns, Split
from crossattn.train.feed import WHOLE, Share, StreamFeed
from crossattn.train.run import Data, Run
from crossattn.train.source import Dataset

WINDOWS = {"patch": 1, "window": 2, "conv": 1}
# Names that published sets give to the split that settings are chosen on.
VALIDATION = ("validation", "val", "valid", "dev")
# Records of a split that are looked at for an answer, before it is said to have none.
LOOKED_AT = 100


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


def load_tfds(run: Run) -> Dataset:
    """Read the directory that a run names; training pictures are read while it trains.

    Raises:
      DataError: there is no directory to read, it is damaged, or does not hold pictures with
        questions and answers, or captions.
      ValueError: the model does not read pictures of this kind.
      ModuleNotFoundError: TensorFlow Datasets is not installed.
    """
    data = run.data
    if not data.directory:
        raise DataError(
            "data.source tfds reads a prepared TFDS directory: name it with --data.directory DIR"
        )
    if run.model.image_encoder not in WINDOWS:
        raise DataError(
            f"model.image_encoder {run.model.image_encoder!r} is not for tfds: choose one of "
            f"{', '.join(WINDOWS)}"
        )
    geometry = Geometry(data.image_size, WINDOWS[run.model.image_encoder])
    parts = divide(data)
    splits, masks = {}, {}
    for name, (split, numbers) in parts.evaluation.items():
        chosen = numbers[: data.evaluation_images or None]
        splits[name], masks[name] = tfds_examples.read_examples(
            split, chosen, parts.survey, geometry
        )
        if parts.survey.asked:
            _check(data, name, splits[name])
    return Dataset(
        vocabulary=parts.survey.language.vocabulary,
        feed=functools.partial(feed, parts, geometry),
        splits=splits,
        main="test",
        pictures=lambda images: splits["test"].images[images],
        masks=lambda images: masks["test"][images],
        window=geometry.window,
        trained=len(parts.survey.trained),
    )


def feed(
    parts: Parts,
    geometry: Geometry,
    run: Run,
    seed: int,
    share: Share = WHOLE,
) -> StreamFeed:
    """The batches of one seed; each of several processes reads its share of every batch.

    Args:
      parts: of the directory.
      geometry: of the pictures.
      run: says how many texts a batch has, over all processes.
      seed: of the order.
      share: which part of each batch this process reads.

    Raises:
      ValueError: the records do not fill one batch, or a batch does not divide by the processes.
    """
    images, rest = divmod(run.batch_size, run.data.texts_per_image * share.parts)
    if rest or not images:
        raise ValueError(
            f"batch_size {run.batch_size} is not a multiple of data.texts_per_image "
            f"{run.data.texts_per_image} times {share.parts} processes"
        )
    stream = RecordStream(
        lambda index: tfds_examples.read_record(parts.train, index, parts.survey, geometry),
        parts.survey.trained,
        images=images,
        texts=run.data.texts_per_image,
        seed=seed,
        process=share.part,
        processes=share.parts,
    )
    return StreamFeed(run, stream, geometry.grid, seed, share)


def divide(data: Data) -> Parts:
    """Find the parts of a directory, and read the texts to train on.

    Raises:
      DataError: there is no split `train`, it has no texts, or a part cannot be read.
    """
    info = tfds_records.prepared(data.directory).info
    names = tfds_text.Names(
        data.image_feature, data.question_feature, data.answer_feature, data.caption_feature
    )
    columns = tfds_text.columns(info.features, names, data.tasks)
    reader = tfds_text.Reader(info.features, columns)

    def split(name: str) -> Split:
        return Split(tfds_records.opened(data.directory, info, name), reader)

    train = split("train")
    there: dict[str, Split] = {}
    called = next((name for name in VALIDATION if name in info.splits), None)
    for part, name in (("validation", called), ("test", "test")):
        if name and name in info.splits and _asks(found := split(name), columns):
            there[part] = found
    aside = tuple(part for part in ("validation", "test") if part not in there)
    if aside == ("test",):
        aside = ()
    survey = tfds_language.survey(train, aside, columns.label_names, data.images)
    if not len(survey.trained):
        raise DataError(f"{data.directory}: its split train holds no text to learn")
    return Parts(train, survey, _evaluation(train, survey, there))


def _evaluation(
    train: Split, survey: Survey, there: dict[str, Split]
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
        else (train, survey.held_out[part])
        for part in ("validation", "test")
    }


def _asks(split: Split, columns: Columns) -> bool:
    """Whether a split has texts to be judged by: questions with answers, if the set has them."""
    first = itertools.islice(split, LOOKED_AT)
    return any(record.questions if columns.question else record.captions for record in first)


def _check(data: Data, name: str, examples: Examples) -> None:
    if not np.any(examples.answer):
        raise DataError(
            f"{data.directory}: its part {name} of {len(examples.images)} pictures has no question "
            "with an answer: raise data.evaluation_images"
        )
