"""What a captioner wrote: words, and where in the picture each looked."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from crossattn import viewer
from crossattn.shapes import Float, UInt8

__all__ = ["Caption", "pieces_of_words"]

# How WordPiece marks a piece that goes on with a word.
GOES_ON = "##"


@dataclasses.dataclass(frozen=True)
class Caption:
    """A text about a picture.

    Attributes:
      text: what was written, the answer alone where a question was asked.
      words: of the prompt or the question, and then of the text.
      weights: (L, H, T, S) where each of the T words looked, S patches row by row. Of a word that
        was written, where the model looked to write it; of a question's, where it looked when it
        read the word, and its answer's words look through these: their weights are the share that
        each word of the question has, times where that one looked, the mean of layers and heads.
        Rows add up to less than 1 by what the class token gets.
      written: which words the model wrote.
      image: what it saw.
      grid: rows and columns of patches.
      readings: of `viewer.Example`.
    """

    text: str
    words: tuple[str, ...]
    weights: Float[np.ndarray, "L H T S"]
    written: tuple[bool, ...]
    image: UInt8[np.ndarray, "h w 3"]
    grid: tuple[int, int]
    readings: Literal["", "predicted"] = "predicted"

    def example(self) -> viewer.Example:
        """For a page on which a word lights up its regions."""
        return viewer.Example(
            self.words,
            self.weights,
            image=self.image,
            grid=self.grid,
            caption=self.text,
            generated=self.written,
            readings=self.readings,
        )


def pieces_of_words(tokenizer: Any, ids: Sequence[int]) -> tuple[tuple[str, ...], list[list[int]]]:
    """The words that tokens are pieces of, and the places of each one's pieces.

    >>> class Tokenizer:
    ...     id_to_token = {5: "ring", 6: "##s", 7: "red"}.get
    >>> pieces_of_words(Tokenizer, [7, 5, 6, 9])
    (('red', 'rings', '<9>'), [[0], [1, 2], [3]])
    """
    words: list[str] = []
    places: list[list[int]] = []
    for place, number in enumerate(ids):
        piece = tokenizer.id_to_token(int(number))
        if piece is not None and piece.startswith(GOES_ON) and words:
            words[-1] += piece.removeprefix(GOES_ON)
            places[-1].append(place)
        else:
            words.append(f"<{number}>" if piece is None else piece)
            places.append([place])
    return tuple(words), places
