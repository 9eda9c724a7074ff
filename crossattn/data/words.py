"""Texts in any script become words: the same for every source of data."""

import functools
import re
import unicodedata

from crossattn.data.errors import DataError, one_line

__all__ = ["spelling", "split_words", "without_marks", "word_places"]

# What a character is in a text: w of a word, m a mark upon another, z joins signs to one (emoji),
# f another invisible one that may stand inside a word, s a sign, and space.
PIECE = re.compile(r"[mzf]*w[wmzf]*|s(?:[mf]|zs|z)*|[mzf]+")
ASCII_PIECE = re.compile(r"\w+|[^\w\s]")
JOINER = "\u200d"


def split_words(text: str) -> list[str]:
    r"""Cut a text into lower-case words and single signs.

    Spellings that look alike are one word: letters with marks in one character or in several (NFC).
    Marks (accents, vowels of Hindi, Hebrew and Arabic) and invisible characters (U+200B to U+200D,
    soft hyphens) stay inside words; the invisible ones at the ends are dropped. Scripts without
    spaces (Chinese, Japanese, Thai) are not cut within a run of letters: put spaces into the data.

    Example:
        >>> split_words("Is there a Red dog?")
        ['is', 'there', 'a', 'red', 'dog', '?']
        >>> split_words("हिन्दी") == ["हिन्दी"]
        True
        >>> split_words("CAFE\u0301") == split_words("caf\u00e9") == ["caf\u00e9"]
        True
    """
    if text.isascii():
        return ASCII_PIECE.findall(text.lower())
    text = _composed(text)
    kinds = "".join(map(_kind, text))
    pieces = (text[match.start() : match.end()] for match in PIECE.finditer(kinds))
    return [piece for piece in map(_stripped, pieces) if piece]


def word_places(text: str) -> tuple[str, list[tuple[int, int]]]:
    """A text in composed letters (NFC), and where in it each of its `split_words` stands.

    Raises:
        DataError: lower-casing changes how the text is cut, so that places are not known.

    Example:
        >>> word_places("A red-ish dog")
        ('A red-ish dog', [(0, 1), (2, 5), (5, 6), (6, 9), (10, 13)])
    """
    composed = unicodedata.normalize("NFC", text)
    if composed.isascii():
        return composed, [match.span() for match in ASCII_PIECE.finditer(composed)]
    places = []
    for match in PIECE.finditer("".join(map(_kind, composed))):
        start, end = match.span()
        piece = composed[start:end]
        kept = _stripped(piece)
        if kept:
            start += piece.index(kept)
            places.append((start, start + len(kept)))
    spelt = [_composed(composed[start:end]) for start, end in places]
    if "".join(spelt) != "".join(split_words(text)):
        raise DataError(f"{one_line(text)}: its words cannot be told in its own spelling")
    return composed, places


def spelling(text: str) -> str:
    """Spell a text, of which all words are one token, so that equal ones are equal.

    Example:
        >>> spelling(" Light  BLUE")
        'light blue'
    """
    return " ".join(_composed(text).split())


def without_marks(text: str) -> str:
    """A text without its marks of beginning and end.

    Example:
        >>> without_marks("<bos> a red ring <eos>")
        'a red ring'
    """
    return " ".join(word for word in text.split() if not word.startswith("<"))


def _composed(text: str) -> str:
    # Lower-casing can leave what composes again.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


@functools.cache
def _kind(character: str) -> str:
    if character.isspace():
        return " "
    if character.isalnum() or character == "_":
        return "w"
    if character == JOINER:
        return "z"
    kind = unicodedata.category(character)
    return {"M": "m", "C": "f" if kind == "Cf" else "s"}.get(kind[0], "s")


def _stripped(piece: str) -> str:
    """Drop invisible characters at the ends; a mark that stands on nothing stays a piece."""
    start, end = 0, len(piece)
    while start < end and _kind(piece[start]) in "zf":
        start += 1
    while start < end and _kind(piece[end - 1]) in "zf":
        end -= 1
    return piece[start:end]
