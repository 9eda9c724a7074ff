"""VQA v2 (Goyal et al. 2017): questions about COCO pictures, ten answers to each.

v2_OpenEnded_mscoco_train2014_questions.json    {"questions": [...]}
v2_mscoco_train2014_annotations.json            {"annotations": [...]}
train2014/COCO_train2014_000000000009.jpg
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.published.answer_words import normalise_answer
from crossattn.data.published.fields import field, identity, look_up, spool_entries
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import (
    MALFORMED,
    AnnotatedLine,
    Folders,
    entry_error,
    find_file,
)
from crossattn.data.published.spool import Spool
from crossattn.data.words import spelling

__all__ = ["read_vqa_v2"]

LAYOUT = (
    "v2_OpenEnded_mscoco_train2014_questions.json, v2_mscoco_train2014_annotations.json and the "
    "folder train2014"
)
PARTS = {"train2014": "train", "val2014": "validation"}


def read_vqa_v2(data: Any, folders: Folders) -> Iterator[AnnotatedLine]:
    """Every question with its ten answers, and the commonest of them to learn."""
    del data
    for part, split in PARTS.items():
        name = f"v2_mscoco_{part}_annotations.json"
        if split == "train" or (folders.directory / name).is_file():
            file = find_file(folders.directory, name, layout=LAYOUT)
            asked = f"v2_OpenEnded_mscoco_{part}_questions.json"
            asked_in = find_file(folders.directory, asked, layout=LAYOUT)
            questions = spool_entries(asked_in, "questions", _question)
            yield from _answered(file, questions, split, folders, part)


def _question(entry: str, value: Any) -> tuple[str, str]:
    del entry
    return identity(value, "question_id"), field(value, "question", str)


def _answered(
    file: Path, questions: Spool, split: str, folders: Folders, part: str
) -> Iterator[AnnotatedLine]:
    for entry, value in json_entries(file, "annotations"):
        try:
            name = f"COCO_{part}_{field(value, 'image_id', int):012}.jpg"
            picture = folders.picture(name, part, f"images/{part}", "images", "")
            text = look_up(questions, value, "question_id", "the file of questions")
            people = field(value, "answers", list)
            answers = tuple(_normalised(field(one, "answer", str)) for one in people)
            answer = _normalised(field(value, "multiple_choice_answer", str))
            if not answer or not answers:
                raise ValueError("has no answers" if answer else "has an empty answer")
        except MALFORMED as error:
            raise entry_error(file, entry, error) from None
        where = f"{file.name}, entry {entry}"
        yield AnnotatedLine(split, (picture,), text, answer, answers=answers, where=where)


def _normalised(answer: str) -> str:
    # Of the letter "a" nothing is left: it stays.
    return normalise_answer(answer) or spelling(answer)
