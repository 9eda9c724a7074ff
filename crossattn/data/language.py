"""What texts about pictures become: a vocabulary, and rows of tokens with their regions.

A row is `<bos>`, the words of a question and its answer, which is one token of its own and the only
target; or `<bos>`, the words of a caption and `<eos>`, all of them targets. Words that the training
texts do not have are `<unknown>`, which no caption asks a model for: none can have learnt it. Where
boxes with class labels are given, the words that spell a label point to the union of its boxes in
the picture, and form the group `label`: they name what an object is. Boxes of phrases of a text
itself are the same, see `ImageRecord.phrases`.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from crossattn.data.records import ImageRecord
from crossattn.data.tokenizer import Pieces, PieceTokenizer
from crossattn.data.words import spelling, split_words

__all__ = [
    "KINDS",
    "SPECIAL",
    "Language",
    "Phrases",
    "Rows",
    "SpeltText",
    "class_phrases",
    "kind_of_answer",
    "mentions",
    "phrases_of",
    "regions_of",
    "spelt_texts",
]

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unknown>")
PAD, BOS, EOS, UNKNOWN = range(len(SPECIAL))
# Words that spell a class label name what an object is; the others are answers.
GROUPS = ("none", "label", "count", "verdict")
CONTENT = ("label",)
Phrases = Mapping[tuple[str, ...], int]
KINDS = ("yes/no", "number", "other", "caption")


class SpeltText(NamedTuple):
    """The words of a text, its answer or an empty one, and its pieces where words are cut."""

    words: list[str]
    answer: str
    pieces: Pieces | None = None

    @property
    def tokens(self) -> list[str]:
        """Its pieces, or else its words."""
        return self.words if self.pieces is None else self.pieces.tokens

    @property
    def with_answer(self) -> list[str]:
        """Its words, and the answer as one."""
        return [*self.words, self.answer] if self.answer else self.words

    def tokens_of(self, start: int, stop: int) -> Iterable[int]:
        """Places in a row, behind `<bos>`, of the tokens of some words."""
        if self.pieces is None:
            return range(1 + start, 1 + stop)
        ranges = zip(self.pieces.first, self.pieces.stop, strict=True)
        return [1 + n for n, (first, end) in enumerate(ranges) if first < stop and start < end]


@dataclasses.dataclass(frozen=True)
class Rows:
    """The E texts of one picture; the fields are those of `Examples`.

    `labels` are those that the O objects stand for, -1 where there is none; `answers` are what A
    people answered, (E, A), -1 where training has no such answer; `sentence` is the same number
    (E,) where texts are judged together, 0 for none.
    """

    tokens: np.ndarray
    target: np.ndarray
    grounded: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    answer: np.ndarray
    labels: np.ndarray
    answers: np.ndarray
    sentence: np.ndarray


@dataclasses.dataclass(frozen=True)
class Language:
    """How texts become tokens.

    Attributes:
        vocabulary: the words, by token.
        length: T; longer texts lose words before the answer, or the end of the caption.
        things: O, labels that the texts of one picture can point to; at least 1.
        label_names: the words of each label.
        people: A, who answered the same question; 0 where one answer is known.
        tokenizer: what cuts texts into pieces; words are tokens where there is none.
    """

    vocabulary: tuple[str, ...]
    length: int
    things: int
    label_names: tuple[tuple[str, ...], ...]
    people: int = 0
    tokenizer: PieceTokenizer | None = None

    @functools.cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    @functools.cached_property
    def _phrases(self) -> dict[tuple[str, ...], int]:
        return class_phrases(self.label_names)

    def rows(self, record: ImageRecord) -> Rows:
        """Tokens of all texts of a record, its questions first."""
        texts = spelt_texts(record, self.tokenizer)
        shape = (len(texts), self.length)
        tokens, group = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        target, kind = np.zeros(shape, bool), np.zeros(len(texts), np.int8)
        grounded = np.zeros((*shape, self.things), bool)
        place = np.zeros(len(texts), np.int32)
        slots: dict[int, int] = {}
        shown = record.shown
        for row, text in enumerate(texts):
            answer = text.answer
            spelt = self._spell(text.tokens, answer)
            end = len(spelt)
            tokens[row, :end] = [self._tokens.get(word, UNKNOWN) for word in spelt]
            place[row] = end - 1 if answer else 0
            target[row, end - 1 if answer else 1 : end] = True
            target[row] &= bool(answer) | (tokens[row] != UNKNOWN)
            kind[row] = KINDS.index(kind_of_answer(answer))
            if answer:
                group[row, end - 1] = _answer_group(answer)
            for start, stop, label in self._regions(record, row, spelt, text):
                group[row, start:stop] = GROUPS.index("label")
                if label in shown and (label in slots or len(slots) < self.things):
                    grounded[row, start:stop, slots.setdefault(label, len(slots))] = True
        labels = np.full(self.things, -1, np.int32)
        labels[: len(slots)] = list(slots)
        answers, sentence = self._answers(record, len(texts)), _sentences(record, len(texts))
        return Rows(tokens, target, grounded, group, kind, place, labels, answers, sentence)

    def _regions(
        self, record: ImageRecord, row: int, spelt: list[str], text: SpeltText
    ) -> Iterable[tuple[int, int, int]]:
        """Tokens (start, stop) of a text that have a region, and its label."""
        if record.spans is None and text.pieces is None:
            return mentions(spelt, phrases_of(record, row, self._phrases))
        last = len(spelt) - bool(spelt[-1] == "<eos>" or text.answer)
        found = []
        for start, stop, label in regions_of(record, row, text, self._phrases):
            if start >= len(text.words):
                found.append((last, last + 1, label))
                continue
            found += [
                (token, token + 1, label) for token in text.tokens_of(start, stop) if token < last
            ]
        return found

    def _answers(self, record: ImageRecord, texts: int) -> np.ndarray:
        answers = np.full((texts, self.people), -1, np.int32)
        for row, said in enumerate(record.answers or ()):
            known = [self._tokens.get(spelling(one), -1) for one in said]
            answers[row, : len(known)] = known
        return answers

    def _spell(self, said: list[str], answer: str) -> list[str]:
        if answer:
            return ["<bos>", *said[: self.length - 2], answer]
        return ["<bos>", *said, "<eos>"][: self.length]


def spelt_texts(record: ImageRecord, tokenizer: PieceTokenizer | None = None) -> list[SpeltText]:
    """The words of each text, its pieces, and the answer of a question."""
    texts = [*record.questions, *((caption, "") for caption in record.captions)]
    cut = tokenizer.pieces if tokenizer else lambda _: None
    return [SpeltText(split_words(text), answer, cut(text)) for text, answer in texts]


def regions_of(
    record: ImageRecord, row: int, text: SpeltText, classes: Phrases
) -> Iterable[tuple[int, int, int]]:
    """Words (start, stop) of a text that have a region, and its label; the answer is the last."""
    if record.spans is not None:
        return record.spans[row]
    return mentions(text.with_answer, phrases_of(record, row, classes))


def phrases_of(record: ImageRecord, row: int, classes: Phrases) -> Phrases:
    """The phrases that have boxes in a text of a record."""
    return classes if record.phrases is None else record.phrases[row]


def _sentences(record: ImageRecord, texts: int) -> np.ndarray:
    named = record.sentences or [""] * texts
    return np.array([_number(name) if name else 0 for name in named], np.int64)


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def class_phrases(names: tuple[tuple[str, ...], ...]) -> dict[tuple[str, ...], int]:
    """Label by its words, and by its words as one token, as an answer spells it."""
    phrases = {name: label for label, name in enumerate(names) if name}
    return phrases | {(" ".join(name),): label for name, label in phrases.items()}


def mentions(spelt: list[str], phrases: Phrases) -> Iterable[tuple[int, int, int]]:
    """Where the words of labels stand: (start, stop, label), the longest label at each place.

    Example:
        >>> list(mentions("a red ring".split(), {("ring",): 0, ("red", "ring"): 1}))
        [(1, 3, 1)]
    """
    lengths = sorted({len(phrase) for phrase in phrases}, reverse=True)
    start = 0
    while start < len(spelt):
        for length in lengths:
            label = phrases.get(tuple(spelt[start : start + length]))
            if label is not None and start + length <= len(spelt):
                yield start, start + length, label
                start += length - 1
                break
        start += 1


def kind_of_answer(answer: str) -> str:
    """The kind of a text, one of `KINDS`, by its answer."""
    if not answer:
        return "caption"
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdigit() else "other"


def _answer_group(answer: str) -> int:
    groups = {"yes/no": "verdict", "number": "count", "other": "none"}
    return GROUPS.index(groups[kind_of_answer(answer)])
