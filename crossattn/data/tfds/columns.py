"""Which features of a TFDS directory are pictures, questions, captions and boxes.

Features are found by their names (`image`; `question` beside `answer` or `answers`; `caption`,
`captions`, `text`; boxes beside class labels), or named by the caller by their path, as in
`question_answer/question`. Lists of features are passed through: `captions/text` names the text of
every caption of a list.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from crossattn.data.errors import DataError
from crossattn.data.tfds import metadata
from crossattn.data.tfds.records import package
from crossattn.data.words import split_words

__all__ = ["Columns", "Names", "columns"]


@dataclasses.dataclass(frozen=True)
class Names:
    """Paths of features as the caller gave them; empty ones are found by their names."""

    image: str = ""
    question: str = ""
    answer: str = ""
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Columns:
    """Paths of the features in use; empty where a directory has none.

    `boxes` and `labels` come together; `label_names` are the words of each label.
    """

    image: str
    question: str = ""
    answer: str = ""
    caption: str = ""
    boxes: str = ""
    labels: str = ""
    label_names: tuple[tuple[str, ...], ...] = ()


def columns(features: Any, names: Names, tasks: Sequence[str]) -> Columns:
    """Find the features to read.

    Args:
        features: of a builder's info.
        names: paths that the caller gave.
        tasks: "question" and "caption": which texts are wanted.

    Raises:
        DataError: no picture or no text is there, more than one could be meant, or a feature that
            the caller named is not there or of another kind; the message lists those there are.
    """
    tfds = package()
    leaves = dict(metadata.leaves(tfds, features))
    there = f"the features there are: {', '.join(leaves)}"
    texts = [path for path, (feature, _) in leaves.items() if _is_text(tfds, feature)]
    images = [
        path
        for path, (feature, depth) in leaves.items()
        if depth == 0 and isinstance(feature, tfds.features.Image)
    ]
    for option, path in dataclasses.asdict(names).items():
        if path and path not in leaves:
            raise DataError(f"--data.{option}-feature {path}: there is none; {there}")
        if path and path not in (images if option == "image" else texts):
            kind = "picture" if option == "image" else "text"
            raise DataError(f"--data.{option}-feature {path} is no {kind}; {there}")
    image = names.image or _the_image(images, there)
    if (kind := leaves[image][0].np_dtype) != np.uint8:
        raise DataError(f"the pictures of {image} have values of {np.dtype(kind)}, not of 8 bits")
    question = answer = caption = ""
    if "question" in tasks:
        question, answer = _question(texts, names.question, names.answer, there)
    if "caption" in tasks:
        caption = names.caption or _caption(texts)
    if not question and not caption:
        raise DataError(
            f"found no text for data.tasks {' '.join(tasks)}: name it with --data.question-feature "
            f"and --data.answer-feature, or --data.caption-feature; {there}"
        )
    return Columns(image, question, answer, caption, *_boxes(tfds, leaves))


def _is_text(tfds: Any, feature: Any) -> bool:
    return isinstance(feature, tfds.features.Tensor) and feature.np_dtype in (np.object_, np.str_)


def _the_image(images: list[str], there: str) -> str:
    if not images:
        raise DataError(f"found no picture; {there}")
    chosen = [path for path in images if path.split("/")[-1] == "image"] or images
    if len(chosen) > 1:
        raise DataError(
            f"{' and '.join(chosen)} are pictures: choose one with --data.image-feature"
        )
    return chosen[0]


def _question(texts: list[str], question: str, answer: str, there: str) -> tuple[str, str]:
    """The question and its answer: what was named, and beside it what is called so."""

    def called(path: str, *names: str) -> bool:
        return path.split("/")[-1] in names

    def beside(path: str, other: str) -> bool:
        start = len(path) - len(path.split("/")[-1])
        inside = other[start:].split("/")[0]
        return other[:start] == path[:start] and inside in ("answer", "answers")

    asked = (
        [question]
        if question
        else [path for path in texts if called(path, "question", "questions")]
    )
    for candidate in asked:
        if answer:
            return candidate, answer
        answers = [path for path in texts if beside(candidate, path)]
        # Of several texts of an answer, the one that is called so.
        answers.sort(key=lambda path: not called(path, "answer", "answers", "text"))
        if answers:
            return candidate, answers[0]
    if question:
        raise DataError(f"found no answer beside {question}: add --data.answer-feature; {there}")
    if answer:
        raise DataError(f"found no question to {answer}: add --data.question-feature; {there}")
    return "", ""


def _caption(texts: list[str]) -> str:
    """The first text that is called a caption, then any that is called a text."""
    for parts in (("caption", "captions"), ("text", "texts")):
        found = [path for path in texts if not set(parts).isdisjoint(path.split("/")[-2:])]
        # The text of a caption rather than its author or its language.
        found.sort(key=lambda path: path.split("/")[-1] not in ("caption", "captions", "text"))
        if found:
            return found[0]
    return ""


def _boxes(tfds: Any, leaves: dict[str, Any]) -> tuple[str, str, tuple[tuple[str, ...], ...]]:
    """Boxes in shares of the sides that have class labels with names beside them."""
    kinds = tfds.features
    for path, (feature, depth) in leaves.items():
        # Older versions know one format of boxes only.
        form = getattr(feature, "bbox_format", None)
        relative = form is None or form.value == "REL_YXYX"
        if not isinstance(feature, kinds.BBoxFeature) or depth != 1 or not relative:
            continue
        parent = path.rpartition("/")[0]
        for other, (label, label_depth) in leaves.items():
            beside = other.rpartition("/")[0] == parent and label_depth == 1
            if beside and isinstance(label, kinds.ClassLabel) and label.names:
                named = tuple(tuple(split_words(name.replace("_", " "))) for name in label.names)
                return path, other, named
    return "", "", ()
