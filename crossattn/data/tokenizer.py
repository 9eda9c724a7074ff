"""Published tokenizers: texts as pieces of words, each with the words that it is a part of.

A word keeps its region through any tokenizer: pieces and words are matched by the characters that
they stand for, which the package `tokenizers` gives for every piece (WordPiece, byte-level BPE,
Unigram; merged words, pieces with the space before them).
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from crossattn.data.errors import DataError, one_line
from crossattn.data.words import word_places

__all__ = ["PieceTokenizer", "Pieces", "read_tokenizer", "with_tokenizer"]

FILE = "tokenizer.json"


class Pieces(NamedTuple):
    """The pieces of a text.

    Attributes:
        tokens: as the tokenizer spells them.
        first: the first word that each piece is a part of.
        stop: the end of these words; the first one again for a piece of none, as a space.
    """

    tokens: list[str]
    first: list[int]
    stop: list[int]


class PieceTokenizer:
    """A tokenizer of the package `tokenizers`, read from its JSON file or from a folder with one.

    Raises:
        DataError: there is no such file, or it is none.
        ModuleNotFoundError: the package is not installed.
    """

    def __init__(self, place: str):
        content = _content(place)
        package = _package()
        try:
            self.tokenizer = package.Tokenizer.from_str(content.decode("utf-8"))
        except Exception as error:  # the package raises its own kinds
            raise DataError(f"data.tokenizer {place} is none: {one_line(error)}") from None
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def pieces(self, text: str) -> Pieces:
        """The pieces of a text, without marks of beginning and end.

        Raises:
            DataError: its words cannot be told by their characters.
        """
        composed, places = word_places(text)
        found = self.tokenizer.encode(composed, add_special_tokens=False)
        first, stop = [], []
        for start, end in found.offsets:
            own = [
                word for word, (left, right) in enumerate(places) if left < end and start < right
            ]
            first.append(own[0] if own else 0)
            stop.append(own[-1] + 1 if own else 0)
        return Pieces(list(found.tokens), first, stop)


def _package() -> Any:
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        if error.name != "tokenizers":
            raise
        raise ModuleNotFoundError(
            "data.tokenizer is read by the package tokenizers, which is not installed; type: "
            "pip install tokenizers",
            name=error.name,
        ) from None
    return tokenizers


def read_tokenizer(place: str) -> PieceTokenizer | None:
    """The tokenizer in a file or a folder; none where no place is given.

    Raises:
        DataError, ModuleNotFoundError: as `PieceTokenizer`.
    """
    return PieceTokenizer(place) if place else None


def with_tokenizer(fingerprint: str, place: str) -> str:
    """The fingerprint of texts that a tokenizer cuts, if there is one: another one is not the same.

    Raises:
        DataError: there is no such file.
    """
    if not place:
        return fingerprint
    return hashlib.blake2b(fingerprint.encode() + _content(place), digest_size=4).hexdigest()


def _content(place: str) -> bytes:
    given = Path(place).expanduser()
    file = given / FILE if given.is_dir() else given
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(
            f"data.tokenizer {place} cannot be read ({error.strerror}): expected a file of the "
            f"package tokenizers, or a folder with {FILE}"
        ) from None
