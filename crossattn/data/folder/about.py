"""What a folder of pictures holds, in sentences for readers of a report."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from crossattn.data.examples import Examples

__all__ = ["about_folder", "about_parts", "unknown_words"]

PARTS_ABOUT = {
    "validation": "Nothing trains on them. What has to be chosen, such as the layer whose "
    "attention is shown, is chosen here.",
    "test": "Nothing trains on them and nothing is chosen by them.",
}
JUDGED = "Nothing trains on them and nothing is chosen by them."
PAIRS = "combinations, as of a thing and its place, that training does not have"


def about_parts(names: Iterable[str]) -> dict[str, str]:
    """A sentence on each part that is not of training."""
    others = {
        name: f"What the file calls {name}{f', {PAIRS}' if name == 'pairs' else ''}. {JUDGED}"
        for name in names
        if name not in ("train", *PARTS_ABOUT)
    }
    return PARTS_ABOUT | others


def about_folder(
    file: Path,
    there: int,
    found: Mapping[str, Examples],
    split_column: str,
    *,
    region: str,
    resized: str,
) -> str:
    """What the data are, in sentences."""
    rows = list(found.values())
    asked = sum(int((one.answer > 0).sum()) for one in rows)
    told = sum(len(one) for one in rows) - asked
    texts = [f"{n:,} {what}" for n, what in ((told, "captions"), (asked, "questions")) if n]
    boxed = sum(int(one.grounded.any(axis=(1, 2)).sum()) for one in rows)
    used = sum(len(one.images) for one in rows)
    of = "" if used == there else f" of the {there:,}"
    boxes = f"words of {boxed:,} of these texts have {region}"
    if asked:
        boxes += f", and {sum(map(_boxed_answers, rows)):,} of the {asked:,} answers have one"
    if not boxed:
        boxes = "no word has a box, so that nothing says where words should look"
    how = f"the column {split_column}" if split_column else "a hash of each picture's file"
    return (
        f"They are {used:,}{of} pictures of {file}, with {' and '.join(texts)}; {boxes}. Pictures "
        f"are split by {how}; {resized}."
    )


def _boxed_answers(one: Examples) -> int:
    """How many answers have a region."""
    asked = np.flatnonzero(one.answer > 0)
    return int(one.grounded[asked, one.answer[asked]].any(axis=-1).sum())


def unknown_words(test: Examples) -> list[str]:
    """How much of the test no training text has."""
    unknown = test.tokens == test.vocabulary.index("<unknown>")
    asked = test.answer > 0
    answers = int(unknown[asked, test.answer[asked]].sum())
    words = int(unknown[~asked].sum())
    said = []
    if words:
        said.append(
            f"{words:,} words of test captions are in no training text: models read them as "
            "<unknown>, and are not asked for them."
        )
    if answers:
        said.append(
            f"{answers:,} of {int(asked.sum()):,} answers of the test are in no training text: no "
            "variant can give them."
        )
    return said
