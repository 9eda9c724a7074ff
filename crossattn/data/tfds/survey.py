"""One pass over the texts of `train`: what they need, and which records are set aside."""

import zlib
from collections.abc import Sequence

from tqdm import tqdm

from crossattn.data.records import ImageRecord
from crossattn.data.survey import Survey, Tally

__all__ = ["survey"]

# Where a directory lacks a split, every tenth picture of `train` is set aside for it.
HELD_OUT_EVERY = 10
HELD_OUT_PLACE = {"validation": 0, "test": 5}
# A pass over the texts that takes longer than this shows its progress.
PATIENCE_SECONDS = 3.0


def survey(
    train: Sequence[ImageRecord],
    aside: tuple[str, ...],
    label_names: tuple[tuple[str, ...], ...],
    limit: int = 0,
) -> Survey:
    """Read the texts of `train` once, its pictures undecoded.

    Args:
        train: the records.
        aside: parts to set aside records for, of "validation" and "test". Pictures are numbered in
            the order in which they first occur, and every tenth goes to each part with all the
            records that show the very same file: no picture is trained on that is evaluated on.
        label_names: the words of each class label; empty without boxes.
        limit: how many records to train on, the first ones; 0 means all.
    """
    places = {HELD_OUT_PLACE[part]: part for part in aside}
    held_out: dict[str, list[int]] = {part: [] for part in aside}
    numbers: dict[int, int] = {}
    trained: list[int] = []
    tally = Tally(label_names)
    for index in tqdm(range(len(train)), desc="reading texts", delay=PATIENCE_SECONDS):
        record = train[index]
        number = numbers.setdefault(zlib.crc32(record.image), len(numbers))
        part = places.get(number % HELD_OUT_EVERY)
        if part is not None:
            held_out[part].append(index)
        elif len(record) and not 0 < limit <= len(trained):
            trained.append(index)
            tally.add(record)
    return tally.survey(trained, held_out)
