"""Texts about recordings as rows of tokens, each word with the recorded words that it is about."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from crossattn.data.language import SPECIAL, kind_of_answer
from crossattn.data.recordings.lines import RecordingLine, SpokenWord
from crossattn.data.survey import text_alone
from crossattn.data.words import split_words

__all__ = ["CONTENT", "GROUPS", "RecordingText", "Vocabulary", "texts_of"]

GROUPS = ("none", "word", "count", "verdict")
CONTENT = ("word",)
UNKNOWN = SPECIAL.index("<unknown>")


class RecordingText(NamedTuple):
    """One row of text.

    Attributes:
        tokens: its words, `<bos>` first; the answer or `<eos>` last.
        about: for each of them the numbers of the recorded words that it is about.
        answer: of a question; empty for a caption.
        kind: what reports call such texts.
    """

    tokens: tuple[str, ...]
    about: tuple[frozenset[int], ...]
    answer: str
    kind: str

    @property
    def question(self) -> str:
        """The question, spelt so that equal ones are equal."""
        return " ".join(self.tokens[1:-1])

    def group(self, place: int) -> str:
        """The group of the word at a place."""
        kind = kind_of_answer(self.answer) if self.answer and place == len(self.tokens) - 1 else ""
        named = {"yes/no": "verdict", "number": "count"}.get(kind)
        return named or ("word" if self.about[place] else "none")


def texts_of(line: RecordingLine, words: Sequence[SpokenWord]) -> list[RecordingText]:
    """The texts of a line, the question first.

    A caption that says what is said, word for word, points to each word in its turn. Elsewhere a
    word points to all recorded words that are spelt like it. An answer points to its evidence, or,
    where none is given, to the recorded words of its spelling; yes and no then to none.

    Example:
        >>> from crossattn.data.recordings.lines import RecordingLine
        >>> line = RecordingLine(1, "a.wav", ("one, one",), "", "", "", "", None, None)
        >>> said = [SpokenWord(("one",), 0.0, 0.4), SpokenWord(("one",), 0.5, 0.9)]
        >>> [sorted(numbers) for numbers in texts_of(line, said)[0].about]
        [[], [0], [], [1], []]
    """
    spelt = [(token, number) for number, word in enumerate(words) for token in word.spelt]
    places: dict[str, frozenset[int]] = {}
    for token, number in spelt:
        places[token] = places.get(token, frozenset()) | {number}
    anywhere = lambda tokens: [places.get(token, frozenset()) for token in tokens]
    nothing = frozenset[int]()
    found = []
    if line.question:
        asked, kind = split_words(line.question), kind_of_answer(line.answer)
        shown = nothing if kind == "yes/no" else _phrase(split_words(line.answer), anywhere)
        shown = shown if line.evidence is None else frozenset(line.evidence)
        tokens = ("<bos>", *asked, line.answer)
        about = (nothing, *anywhere(asked), shown)
        found.append(RecordingText(tokens, about, line.answer, line.kind or kind))
    for caption in line.captions:
        told = split_words(caption)
        heard = [(token, number) for token, number in spelt if token.isalnum()]
        said = [token for token in told if token.isalnum()]
        about_words = anywhere(told)
        if said == [token for token, _ in heard]:
            turn = (frozenset([number]) for _, number in heard)
            about_words = [next(turn) if token.isalnum() else nothing for token in told]
        about = (nothing, *about_words, nothing)
        found.append(RecordingText(("<bos>", *told, "<eos>"), about, "", "caption"))
    return found


def _phrase(tokens: Sequence[str], anywhere: Any) -> frozenset[int]:
    """The recorded words of an answer, if it is one word of them."""
    found = anywhere(tokens)
    return frozenset.intersection(*found) if found else frozenset()


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """What the texts of all parts need to become arrays.

    Attributes:
        words: by token; words that no training text has are `<unknown>`.
        kinds: names of the kinds of texts.
        length: T of the longest text.
        asked: (question, answer) to how often it was trained on.
    """

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    length: int
    asked: Counter[tuple[str, str]]

    @classmethod
    def of(cls, learnt: Sequence[RecordingText], judged: Sequence[RecordingText]) -> "Vocabulary":
        """What these texts need, of which models learn from the first."""
        known = {token for text in learnt for token in text.tokens}
        every = [*learnt, *judged]
        return cls(
            (*SPECIAL, *sorted(known - set(SPECIAL))),
            tuple(sorted({text.kind for text in every})),
            max(len(text.tokens) for text in every),
            Counter((text.question, text.answer) for text in learnt if text.answer),
        )

    def rows(self, texts: Sequence[RecordingText], things: int) -> dict[str, Any]:
        """The fields of `Examples` that are about text, for regions 0 to `things` - 1."""
        numbers = {word: token for token, word in enumerate(self.words)}
        shape = len(texts), self.length
        tokens, group = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        target, grounded = np.zeros(shape, bool), np.zeros((*shape, things), bool)
        for row, text in enumerate(texts):
            end = len(text.tokens)
            tokens[row, :end] = [numbers.get(token, UNKNOWN) for token in text.tokens]
            target[row, end - 1 if text.answer else 1 : end] = True
            target[row] &= bool(text.answer) | (tokens[row] != UNKNOWN)
            group[row, :end] = [GROUPS.index(text.group(place)) for place in range(end)]
            for place, about in enumerate(text.about):
                grounded[row, place, list(about)] = True
        ends = [len(text.tokens) - 1 if text.answer else 0 for text in texts]
        kinds = [self.kinds.index(text.kind) for text in texts]
        asked = [(text.question, text.answer, text.kind) for text in texts if text.answer]
        return {
            "tokens": tokens,
            "target": target,
            "grounded": grounded,
            "group": group,
            "kind": np.array(kinds, np.int8),
            "answer": np.array(ends, np.int32),
            "vocabulary": self.words,
            "kinds": self.kinds,
            "groups": GROUPS,
            "content": CONTENT,
            "chance": text_alone(self.asked, asked),
        }
