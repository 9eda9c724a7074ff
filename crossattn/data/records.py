"""A picture with texts and boxes, as sources that read files hand it on."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["ImageRecord"]


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """What one record holds.

    Attributes:
        image: the encoded picture, or its pixels (size, size, 3) in uint8 as a model reads them.
        questions: (question, answer) pairs; those without an answer are left out.
        captions: texts about the picture.
        boxes: (n, 4) ymin, xmin, ymax, xmax as shares of the sides; n labels beside them.
        labels: indices into `label_names` of the data, or of `phrases`.
        phrases: for each text, questions first, the label of each phrase in it that has boxes;
            None where labels are classes with names, which any text may mention.
        masks: (label, pixels (size, size) bool) of regions that are exact, as a model reads them.
        spans: for each text, questions first, (start, stop, label) of words that have boxes; the
            word after the last one of a question is its answer. Read instead of phrases.
        answers: for each question, what several people answered; None where one is known.
        sentences: for each text, the same name where texts are judged together, or none.
        cells: (rows, columns) bool, which cells of the pixels show the picture; None: all.
    """

    image: Any
    questions: list[tuple[str, str]]
    captions: list[str]
    boxes: np.ndarray
    labels: list[int]
    phrases: list[Mapping[tuple[str, ...], int]] | None = None
    masks: tuple[tuple[int, np.ndarray], ...] = ()
    spans: Sequence[Sequence[tuple[int, int, int]]] | None = None
    answers: Sequence[Sequence[str]] | None = None
    sentences: Sequence[str] | None = None
    cells: np.ndarray | None = None

    @property
    def shown(self) -> set[int]:
        """The labels that have a region."""
        return {*self.labels, *(label for label, _ in self.masks)}

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.questions) + len(self.captions)
