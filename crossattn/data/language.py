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
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from crossattn.data.records import ImageRecord
from crossattn.data.words import split_words

__all__ = [
    "KINDS",
    "SPECIAL",
    "Language",
    "Rows",
    "Survey",
    "Tally",
    "kind_of_answer",
    "mentions",
    "normalised",
    "text_alone",
]

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unknown>")
PAD, BOS, EOS, UNKNOWN = range(len(SPECIAL))
# Words that spell a class label name what an object is; the others are answers.
GROUPS = ("none", "label", "count", "verdict")
CONTENT = ("label",)
KINDS = ("yes/no", "number", "other", "caption")


@dataclasses.dataclass(frozen=True)
class Rows:
    """The E texts of one picture; the fields are those of `Examples`.

    `labels` are those that the O objects stand for, -1 where there is none.
    """

    tokens: np.ndarray
    target: np.ndarray
    grounded: np.ndarray
    group: np.ndarray
    kind: np.ndarray
    answer: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Language:
    """How texts become tokens.

    Attributes:
        vocabulary: the words, by token.
        length: T; longer texts lose words before the answer, or the end of the caption.
        things: O, labels that the texts of one picture can point to; at least 1.
        label_names: the words of each label.
    """

    vocabulary: tuple[str, ...]
    length: int
    things: int
    label_names: tuple[tuple[str, ...], ...]

    @functools.cached_property
    def _tokens(self) -> dict[str, int]:
        return {word: token for token, word in enumerate(self.vocabulary)}

    @functools.cached_property
    def _phrases(self) -> dict[tuple[str, ...], int]:
        return _phrases(self.label_names)

    def rows(self, record: ImageRecord) -> Rows:
        """Tokens of all texts of a record, its questions first."""
        texts = _texts(record)
        shape = (len(texts), self.length)
        tokens, group = np.zeros(shape, np.int32), np.zeros(shape, np.int8)
        target, kind = np.zeros(shape, bool), np.zeros(len(texts), np.int8)
        grounded = np.zeros((*shape, self.things), bool)
        place = np.zeros(len(texts), np.int32)
        slots: dict[int, int] = {}
        shown = record.shown
        for row, (said, answer) in enumerate(texts):
            spelt = self._spell(said, answer)
            end = len(spelt)
            tokens[row, :end] = [self._tokens.get(word, UNKNOWN) for word in spelt]
            place[row] = end - 1 if answer else 0
            target[row, end - 1 if answer else 1 : end] = True
            target[row] &= bool(answer) | (tokens[row] != UNKNOWN)
            kind[row] = KINDS.index(kind_of_answer(answer))
            if answer:
                group[row, end - 1] = _answer_group(answer)
            phrases = self._phrases if record.phrases is None else record.phrases[row]
            for start, stop, label in mentions(spelt, phrases):
                group[row, start:stop] = GROUPS.index("label")
                if label in shown and (label in slots or len(slots) < self.things):
                    grounded[row, start:stop, slots.setdefault(label, len(slots))] = True
        labels = np.full(self.things, -1, np.int32)
        labels[: len(slots)] = list(slots)
        return Rows(tokens, target, grounded, group, kind, place, labels)

    def _spell(self, said: list[str], answer: str) -> list[str]:
        if answer:
            return ["<bos>", *said[: self.length - 2], answer]
        return ["<bos>", *said, "<eos>"][: self.length]


def _texts(record: ImageRecord) -> list[tuple[list[str], str]]:
    """The words of each text, and the answer of a question."""
    texts = [(split_words(question), answer) for question, answer in record.questions]
    return texts + [(split_words(caption), "") for caption in record.captions]


def _phrases(names: tuple[tuple[str, ...], ...]) -> dict[tuple[str, ...], int]:
    """Label by its words, and by its words as one token, as an answer spells it."""
    phrases = {name: label for label, name in enumerate(names) if name}
    return phrases | {(" ".join(name),): label for name, label in phrases.items()}


def mentions(
    spelt: list[str], phrases: Mapping[tuple[str, ...], int]
) -> Iterable[tuple[int, int, int]]:
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


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over the texts of `train` finds.

    Attributes:
        language: of the records to train on.
        trained: numbers of the records to train on; each has a text.
        held_out: part to the numbers of the records that were set aside for it.
        asked: (question, answer) to how often it was trained on.
    """

    language: Language
    trained: np.ndarray
    held_out: dict[str, np.ndarray]
    asked: Counter[tuple[str, str]]

    def chance(self, rows: list[tuple[str, str]]) -> dict[str, float]:
        """Accuracy on (question, answer) pairs, by kind, of the best guess without the picture.

        The guess is the commonest answer to the same question in training, and the commonest of
        all to a question that is new.
        """
        return text_alone(self.asked, [(*row, kind_of_answer(row[1])) for row in rows])


def text_alone(
    asked: Mapping[tuple[str, str], int], rows: Sequence[tuple[str, str, str]]
) -> dict[str, float]:
    """Accuracy, by kind, of the best guess that reads the question only.

    Args:
        asked: (question, answer) to how often it was trained on.
        rows: (question, answer, kind) of what is judged.

    Example:
        >>> text_alone({("who?", "me"): 2, ("who?", "you"): 1}, [("who?", "me", "other")])
        {'other': 1.0}
    """
    counts: dict[str, Counter[str]] = {}
    overall: Counter[str] = Counter()
    wanted = {question for question, *_ in rows}
    for (question, answer), count in asked.items():
        overall[answer] += count
        if question in wanted:
            counts.setdefault(question, Counter())[answer] += count
    best = {question: _commonest(answers) for question, answers in counts.items()}
    fallback = _commonest(overall)
    right: dict[str, list[bool]] = {}
    for question, answer, kind in rows:
        right.setdefault(kind, []).append(best.get(question, fallback) == answer)
    return {kind: float(np.mean(values)) for kind, values in right.items()}


def _commonest(answers: Counter[str]) -> str:
    return min(answers, key=lambda answer: (-answers[answer], answer), default="")


class Tally:
    """What the texts of some records need: words, length, objects; and what they ask.

    Attributes:
        length: T of the longest text.
        things: O of the record whose texts mention the most labels.
    """

    def __init__(self, label_names: tuple[tuple[str, ...], ...] = ()):
        self.label_names, self.phrases = label_names, _phrases(label_names)
        self.lexicon: set[str] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.length, self.things = 2, 1

    def add(self, record: ImageRecord, *, learnt: bool = True) -> None:
        """Count a record; where its texts are not learnt, only the room that they take."""
        mentioned: set[int] = set()
        for row, (said, answer) in enumerate(_texts(record)):
            text = [*said, answer or "<eos>"]
            self.length = max(self.length, 1 + len(text))
            phrases = self.phrases if record.phrases is None else record.phrases[row]
            mentioned.update(label for *_, label in mentions(text, phrases))
            if learnt:
                self.lexicon.update(text)
        self.things = max(self.things, len(mentioned & record.shown))
        if learnt:
            self.asked.update(normalised(record))

    def survey(self, trained: Sequence[int], held_out: Mapping[str, Sequence[int]]) -> Survey:
        """What was counted, of records of these numbers."""
        vocabulary = (*SPECIAL, *sorted(self.lexicon - set(SPECIAL)))
        return Survey(
            language=Language(vocabulary, self.length, self.things, self.label_names),
            trained=np.array(trained, np.int64),
            held_out={part: np.array(found, np.int64) for part, found in held_out.items()},
            asked=self.asked,
        )


def normalised(record: ImageRecord) -> list[tuple[str, str]]:
    """Questions of a record, spelt so that equal ones are equal, with their answers."""
    return [(" ".join(split_words(question)), answer) for question, answer in record.questions]
