"""All texts of a set, gathered by picture: its parts, and the sets of pairs that are named."""

import dataclasses
import hashlib
from collections.abc import Iterable

from tqdm import tqdm

from crossattn.data.errors import DataError
from crossattn.data.published.index import AnnotatedPictures
from crossattn.data.published.lines import AnnotatedLine, Folders, SetReader
from crossattn.data.published.pairs import PAIRS
from crossattn.data.published.settings import PublishedData
from crossattn.data.tokenizer import with_tokenizer
from crossattn.data.words import split_words

__all__ = ["PATIENCE_SECONDS", "Gathered", "read_all_parts"]

# A pass over the texts that takes longer than this shows its progress.
PATIENCE_SECONDS = 3.0
Parts = dict[str, AnnotatedPictures]


@dataclasses.dataclass(frozen=True)
class Gathered:
    """What is read of a set.

    Attributes:
        splits: train, validation, test and others of the set itself.
        pairs: sets of pairs, by the split that they become.
        fingerprint: of all texts and regions.
        notes: which pictures are missing and which captions empty, in sentences.
    """

    splits: Parts
    pairs: Parts
    fingerprint: str
    notes: tuple[str, ...]


def read_all_parts(data: PublishedData, read: SetReader) -> Gathered:
    """Read all texts of a set.

    Empty captions are left out, and texts whose picture is missing, where that is allowed.

    Raises:
        DataError: an entry is damaged, or more pictures are missing than may be.
    """
    folders = Folders(data.directory, data.pictures)
    splits, *notes = _parts(data, read(data, folders), folders)
    pairs: Parts = {}
    for name, read_pairs in PAIRS.items():
        if directory := getattr(data, name, ""):
            folders = Folders(directory)
            own, *said = _parts(data, read_pairs(folders), folders, by_sentence=True)
            if not own:
                raise DataError(f"{directory} holds no pairs")
            pairs |= own
            notes += said
    digests = b"".join(one.digest.digest() for one in [*splits.values(), *pairs.values()])
    mark = hashlib.blake2b(digests, digest_size=4).hexdigest()
    there = tuple(note for note in notes if note)
    return Gathered(splits, pairs, with_tokenizer(mark, data.tokenizer), there)


def _parts(
    data: PublishedData,
    lines: Iterable[AnnotatedLine],
    folders: Folders,
    *,
    by_sentence: bool = False,
) -> tuple[Parts, str, str]:
    """The lines of each part by picture, or by what they name; and which were left out."""
    parts: Parts = {}
    first, texts, every = "", 0, 0
    first_empty, empty = "", 0
    for line in tqdm(lines, desc="reading texts", delay=PATIENCE_SECONDS):
        every += 1
        if not all(line.pictures):
            first, texts = first or line.where, texts + 1
            continue
        # A pair needs both of its texts, and an answer its question.
        if not (by_sentence or line.answer or split_words(line.text)):
            first_empty, empty = first_empty or line.where, empty + 1
            continue
        own = parts.setdefault(line.split, AnnotatedPictures(data.canvas, str(folders.pictures)))
        own.add(line, line.sentence if by_sentence else "")
    for part in parts.values():
        part.gather()
    missing = _told_missing(data, folders, first, f"{texts:,} of {every:,} texts")
    are = "is" if empty == 1 else "are"
    many = f"{empty:,} of {every:,} texts {are} empty and left out"
    return parts, missing, f"{many} (the first: {first_empty})." if empty else ""


def _told_missing(data: PublishedData, folders: Folders, first: str, texts: str) -> str:
    """A note on the pictures that are missing, if there are such.

    Raises:
        DataError: there are more than may be; names the first.
    """
    count = len(folders.missing)
    if not count:
        return ""
    many = "1 picture is missing" if count == 1 else f"{count:,} pictures are missing"
    said = f"{folders.where or first}: {folders.why}"
    if count > data.missing:
        raise DataError(f"{said}; {many}, of {texts}: --data.missing {count} leaves these out")
    return f"{many}, and {texts} are left out with them ({said})."
