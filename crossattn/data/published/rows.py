"""Rows of other people's tables: a picture with captions, or a question and its answers."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from crossattn.data.errors import DataError, one_line
from crossattn.data.published.answer_words import normalise_answer
from crossattn.data.published.lines import AnnotatedLine
from crossattn.data.words import spelling

__all__ = ["SPLIT_NAMES", "TextColumns", "find_text_columns", "row_lines", "split_said_by"]

# What people call each column, the first one that is there.
CALLED = {
    "caption": ("caption", "captions", "text", "sentence", "sentences", "raw", "txt"),
    "question": ("question", "query"),
    "answer": ("answer", "multiple_choice_answer", "answers", "label"),
}
# What people call a split, in the name of a file or of a folder.
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid", "dev"), "validation"),
    "test": "test",
}
# So many people or more answer by the spelling of VQA.
SEVERAL = 3


@dataclasses.dataclass(frozen=True)
class TextColumns:
    """Names of the columns; empty where a table has none."""

    caption: str = ""
    question: str = ""
    answer: str = ""


def find_text_columns(there: Iterable[str], data: Any, what: str) -> TextColumns:
    """The columns of texts, found by their names or named by the settings.

    Args:
        there: names of all columns.
        data: settings with `caption_column`, `question_column`, `answer_column` and `tasks`.
        what: the table, for messages.

    Raises:
        DataError: a named column is not there, or no text is.
    """
    names = list(there)
    listed = one_line(", ".join(names)) or "none"
    found = {}
    for kind, called in CALLED.items():
        given = getattr(data, f"{kind}_column")
        if given and given not in names:
            raise DataError(f"--data.{kind}-column {given}: {what} has the columns {listed}")
        found[kind] = given or next((name for name in called if name in names), "")
    if "caption" not in data.tasks:
        found["caption"] = ""
    if "question" not in data.tasks or not (found["question"] and found["answer"]):
        found["question"] = found["answer"] = ""
    if not found["caption"] and not found["question"]:
        raise DataError(
            f"{what} has no texts for data.tasks {' '.join(data.tasks)} in its columns {listed}: "
            "name one with --data.caption-column, or --data.question-column and "
            "--data.answer-column"
        )
    return TextColumns(**found)


def row_lines(
    row: Mapping[str, Any], columns: TextColumns, picture: str, split: str, where: str
) -> Iterator[AnnotatedLine]:
    """The texts of a row; a question whose answer is missing is left out.

    Raises:
        ValueError: a text is none.
    """
    base = AnnotatedLine(split, (picture,), "", where=where)
    if columns.caption and row.get(columns.caption) is not None:
        for text in _texts(columns.caption, row[columns.caption]):
            yield base._replace(text=text)
    if columns.question and row.get(columns.question) is not None:
        (question,) = _said(columns.question, row[columns.question]) or ("",)
        given = row.get(columns.answer)
        answers = _said(columns.answer, () if given is None else given)
        if not answers:
            return
        if len(answers) < SEVERAL:
            yield base._replace(text=question, answer=answers[0])
            return
        spelt = tuple(normalise_answer(one) or spelling(one) for one in answers)
        commonest = Counter(spelt).most_common(1)[0][0]
        yield base._replace(text=question, answer=commonest, answers=spelt)


def _said(name: str, value: Any) -> tuple[str, ...]:
    """Those of `_texts` that are not empty."""
    return tuple(filter(None, _texts(name, value)))


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """A text, a list of texts, or of objects that hold one under the name of an answer or text."""
    values = value if isinstance(value, list | tuple) else [value]
    found = []
    for one in values:
        if isinstance(one, Mapping):
            inner = [one[key] for key in ("answer", "raw", "caption", "text") if key in one]
            one = inner[0] if inner else one
        if not isinstance(one, str):
            raise ValueError(f"{name}: expected a text or a list of them, got {one_line(value)}")
        found.append(one.strip())
    return tuple(found)


def split_said_by(name: str) -> str:
    """The split that the name of a file or of a folder says; train where it says none.

    Example:
        >>> split_said_by("coco-val-00003"), split_said_by("shard-7")
        ('validation', 'train')
    """
    words = "".join(sign if sign.isalpha() else " " for sign in name.lower()).split()
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "train")
