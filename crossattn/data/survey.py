"""One pass over the texts of a set: the words, the room and the answers that they need."""

import dataclasses
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from crossattn.data.language import (
    SPECIAL,
    Language,
    class_phrases,
    kind_of_answer,
    regions_of,
    spelt_texts,
)
from crossattn.data.records import ImageRecord
from crossattn.data.tokenizer import PieceTokenizer
from crossattn.data.words import split_words

__all__ = ["Survey", "Tally", "normalised", "text_alone"]


@dataclasses.dataclass(frozen=True)
class Survey:
    """What one pass over the texts of `train` finds.

    Attributes:
        language: of the records to train on.
        trained: numbers of the records to train on; each has a text.
        held_out: part to the numbers of the records that were set aside for it.
        asked: (question, answer) to how often it was trained on.
        texts: of each of `trained`, how many it has.
        words: of each of these texts, one behind the other, how many are read at most to predict
            its last.
    """

    language: Language
    trained: np.ndarray
    held_out: dict[str, np.ndarray]
    asked: Counter[tuple[str, str]]
    texts: np.ndarray
    words: np.ndarray

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
        people: A of the question that most people answered.
    """

    def __init__(
        self,
        label_names: tuple[tuple[str, ...], ...] = (),
        tokenizer: PieceTokenizer | None = None,
    ):
        self.tokenizer = tokenizer
        self.label_names, self.phrases = label_names, class_phrases(label_names)
        self.lexicon: set[str] = set()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.length, self.things, self.people = 2, 1, 0
        self.texts, self.words = array("I"), array("I")

    def add(self, record: ImageRecord, *, learnt: bool = True) -> None:
        """Count a record; where its texts are not learnt, only the room that they take."""
        mentioned: set[int] = set()
        for row, text in enumerate(spelt_texts(record, self.tokenizer)):
            spelt = [*text.tokens, text.answer or "<eos>"]
            self.length = max(self.length, 1 + len(spelt))
            found = regions_of(record, row, text, self.phrases)
            mentioned.update(label for *_, label in found)
            if learnt:
                self.lexicon.update(spelt)
                self.words.append(len(spelt))
        self.things = max(self.things, len(mentioned & record.shown))
        self.people = max([self.people, *map(len, record.answers or ())])
        if learnt:
            self.asked.update(normalised(record))
            self.texts.append(len(record))

    def survey(self, trained: Sequence[int], held_out: Mapping[str, Sequence[int]]) -> Survey:
        """What was counted, of records of these numbers."""
        vocabulary = (*SPECIAL, *sorted(self.lexicon - set(SPECIAL)))
        return Survey(
            language=Language(
                vocabulary,
                self.length,
                self.things,
                self.label_names,
                self.people,
                self.tokenizer,
            ),
            trained=np.array(trained, np.int64),
            held_out={part: np.array(found, np.int64) for part, found in held_out.items()},
            asked=self.asked,
            texts=np.array(self.texts, np.int32),
            words=np.array(self.words, np.int32),
        )


def normalised(record: ImageRecord) -> list[tuple[str, str]]:
    """Questions of a record, spelt so that equal ones are equal, with their answers."""
    return [(" ".join(split_words(question)), answer) for question, answer in record.questions]
