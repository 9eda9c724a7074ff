"""Records of a TFDS directory as pictures, questions, captions and boxes."""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossattn.data.errors import DataError, one_line
from crossattn.data.records import ImageRecord
from crossattn.data.tfds.columns import Columns, Names, columns
from crossattn.data.tfds.records import Records, package
from crossattn.data.words import spelling, split_words

__all__ = ["Columns", "ImageRecord", "Names", "Reader", "Split", "columns"]

# Boxes may miss the sides by so much, as rounding leaves them.
SLACK = 1e-3


class Reader:
    """Reads the columns in use out of a serialized example; the picture stays encoded.

    No other feature is decoded: TFDS would open further pictures with any decoder that there is.
    """

    def __init__(self, features: Any, chosen: Columns):
        tfds = package()
        self.columns = chosen
        paths = (chosen.image, chosen.question, chosen.answer, chosen.caption, chosen.boxes)
        used = [path for path in (*paths, chosen.labels) if path]
        self.features = _pruned(tfds, features, used)
        self.decoders: Any = tfds.decode.SkipDecoding()
        for name in reversed(chosen.image.split("/")):
            self.decoders = {name: self.decoders}

    def __call__(self, serialized: bytes) -> ImageRecord:
        """Read one record.

        Raises:
            DataError: it is no example of these features.
        """
        try:
            return self._read(serialized)
        except DataError:
            raise
        except Exception as error:  # protobuf and TFDS raise many kinds
            raise DataError(f"is no example of these features: {one_line(error)}") from None

    def _read(self, serialized: bytes) -> ImageRecord:
        example = self.features.deserialize_example_np(serialized, decoders=self.decoders)
        chosen = self.columns
        get = lambda path: _get(example, path) if path else []
        boxes, labels = self._things(get(chosen.boxes), get(chosen.labels))
        return ImageRecord(
            image=_get(example, chosen.image),
            questions=_pairs(_strings(get(chosen.question)), _strings(get(chosen.answer))),
            captions=[text for text in _flat(_strings(get(chosen.caption))) if split_words(text)],
            boxes=boxes,
            labels=labels,
        )

    def _things(self, boxes: Any, labels: Any) -> tuple[np.ndarray, list[int]]:
        boxes, labels = np.asarray(boxes, np.float32).reshape(-1, 4), [int(one) for one in labels]
        if len(boxes) != len(labels):
            raise DataError(f"has {len(boxes)} boxes and {len(labels)} labels")
        if not all(-1 <= label < len(self.columns.label_names) for label in labels):
            raise DataError(f"has labels {labels} of {len(self.columns.label_names)} classes")
        inside = np.all((boxes >= -SLACK) & (boxes <= 1 + SLACK))
        if not inside or np.any(boxes[:, :2] > boxes[:, 2:]):
            raise DataError("has boxes that are no ymin, xmin, ymax, xmax in shares of the sides")
        # TFDS writes -1 for things whose class is not known.
        known = np.asarray(labels, int) >= 0
        return boxes[known], [label for label in labels if label >= 0]


class Split(Sequence):
    """The records of one split, read, each a `ImageRecord`."""

    def __init__(self, records: Records, reader: Reader):
        self.records, self.reader = records, reader

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: Any) -> Any:
        """Read one record.

        Raises:
            DataError: names the file and the record.
        """
        serialized = self.records[index]
        try:
            return self.reader(serialized)
        except DataError as error:
            raise DataError(f"{self.where(index)} {error}") from None

    def where(self, index: int) -> str:
        """Spell where a record lies, for messages."""
        return self.records.where(index)


def _pruned(tfds: Any, feature: Any, paths: list[str]) -> Any:
    """Only what the paths name; classes that extend dicts and lists (translations) stay whole."""
    if type(feature) is tfds.features.Sequence:
        inner = _pruned(tfds, feature.feature, paths)
        return tfds.features.Sequence(inner, length=feature._length)
    if type(feature) is not tfds.features.FeaturesDict:
        return feature
    inside: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition("/")
        inside.setdefault(name, []).append(rest)
    kept = {name: _pruned(tfds, feature[name], rest) for name, rest in inside.items()}
    return tfds.features.FeaturesDict(kept)


def _get(example: Any, path: str) -> Any:
    for name in path.split("/"):
        example = example[name]
    if example is None:
        raise DataError(f"has no {path}")
    return example


def _strings(value: Any) -> Any:
    """Texts come back as bytes, lists of them as lists or arrays."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"has a text that is not UTF-8: {one_line(error)}") from None
    return value if isinstance(value, str) else [_strings(item) for item in value]


def _flat(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return list(itertools.chain.from_iterable(_flat(item) for item in value))


def _pairs(questions: Any, answers: Any) -> list[tuple[str, str]]:
    """Each question with its answer: of several answers the commonest, of those the first."""
    if isinstance(questions, str):
        questions, answers = [questions], [answers]
    if len(questions) != len(answers):
        raise DataError(f"has {len(questions)} questions and {len(answers)} answers")
    pairs = []
    for question, said in zip(questions, answers, strict=True):
        counts = Counter(spelling(text) for text in _flat(said))
        answer = counts.most_common(1)[0][0] if counts else ""
        if answer and split_words(question):
            pairs.append((question, answer))
    return pairs
