"""VQA v2 (Goyal et al. 2017): questions about COCO pictures, ten answers to each.

v2_OpenEnded_mscoco_train2014_questions.json    {"questions": [...]}
v2_mscoco_train2014_annotations.json            {"annotations": [...]}
train2014/COCO_train2014_000000000009.jpg
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossattn.data.published.answer_words import normalise_answer
from crossattn.data.published.json_stream import json_entries
from crossattn.data.published.lines import AnnotatedLine, Folders, entry_error, find_file
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
            questions = _questions(find_file(folders.directory, asked, layout=LAYOUT))
            yield from _answered(file, questions, split, folders, part)


def _questions(file: Path) -> Spool:
    questions = Spool()
    for entry, value in json_entries(file, "questions"):
        try:
            questions.add(str(value["question_id"]), str(value["question"]))
        except (KeyError, TypeError) as error:
            raise entry_error(file, entry, error) from None
    return questions


def _answered(
    file: Path, questions: Spool, split: str, folders: Folders, part: str
) -> Iterator[AnnotatedLine]:
    for entry, value in json_entries(file, "annotations"):
        try:
            name = f"COCO_{part}_{int(value['image_id']):012}.jpg"
            picture = folders.picture(name, part, f"images/{part}", "images", "")
            text = questions.get(str(value["question_id"]))
            answers = tuple(_normalised(one["answer"]) for one in value["answers"])
            answer = _normalised(value["multiple_choice_answer"])
            if not answer:
                raise ValueError("has an empty answer")
        except (KeyError, TypeError, ValueError) as error:
            raise entry_error(file, entry, error) from None
        where = f"{file.name}, entry {entry}"
        yield AnnotatedLine(split, (picture,), text, answer, answers=answers, where=where)


def _normalised(answer: Any) -> str:
    # Of the letter "a" nothing is left: it stays.
    return normalise_answer(str(answer)) or spelling(str(answer))
