"""What the questions of easy-VQA become: tokens, groups of words, and which words point."""

import dataclasses

import numpy as np

from crossattn.data.words import split_words

__all__ = ["CONTENT", "GROUPS", "KINDS", "SHAPES", "Questions", "Wordings"]

KINDS = ("shape", "colour", "shape yes/no", "colour yes/no")
GROUPS = ("none", "colour", "shape", "thing", "verdict")
CONTENT = ("colour", "shape")
SHAPES = frozenset({"circle", "rectangle", "triangle"})
YES_NO = frozenset({"yes", "no"})
NEGATIONS = frozenset({"no", "not"})


@dataclasses.dataclass(frozen=True)
class Questions:
    """One split: per question its image's number, and indices into the wordings and answers."""

    image: np.ndarray
    wording: np.ndarray
    answer: np.ndarray

    def __getitem__(self, keep: np.ndarray) -> "Questions":
        return Questions(self.image[keep], self.wording[keep], self.answer[keep])


class Wordings:
    """The W different questions and the answers of the package as tables, a row each.

    Args:
        wordings: the questions.
        answers: words.
    """

    def __init__(self, wordings: tuple[str, ...], answers: tuple[str, ...]):
        split = [split_words(wording) for wording in wordings]
        words = sorted({word for said in split for word in said} | set(answers))
        token = {word: index for index, word in enumerate(("<pad>", *words))}
        self.wordings, self.answers, self.vocabulary = wordings, answers, tuple(token)
        # The answer's place is still empty.
        self.tokens = np.zeros((len(split), max(map(len, split)) + 1), np.int32)
        self.group = np.zeros(self.tokens.shape, np.int8)
        for row, said in enumerate(split):
            self.tokens[row, : len(said)] = [token[word] for word in said]
            self.group[row, : len(said)] = _question_groups(said, answers)
        self.length = np.array([len(said) for said in split], np.int32)
        self.negated = np.array([not NEGATIONS.isdisjoint(said) for said in split])
        self.answer_token = np.array([token[answer] for answer in answers], np.int32)
        self.answer_group = np.array([_answer_group(answer) for answer in answers], np.int8)
        self.is_open = np.array([answer not in YES_NO for answer in answers])

    def questions(self, asked: tuple[list[str], list[str], list[int]]) -> Questions:
        """Questions, their answers and images, as the package gives them."""
        questions, answers, images = asked
        wording = {name: index for index, name in enumerate(self.wordings)}
        answer = {name: index for index, name in enumerate(self.answers)}
        return Questions(
            np.array(images),
            np.array([wording[question] for question in questions]),
            np.array([answer[name] for name in answers]),
        )

    def kinds(self, rows: Questions) -> np.ndarray:
        """(E,) int8: an open question asks for its answer's group, another for that of a word."""
        shape, is_open = GROUPS.index("shape"), self.is_open[rows.answer]
        said = (self.group == shape).any(1)[rows.wording]
        asks_shape = np.where(is_open, self.answer_group[rows.answer] == shape, said)
        # In the order of `KINDS`.
        return (np.where(asks_shape, 0, 1) + np.where(is_open, 0, 2)).astype(np.int8)

    def chance(self, learnt: Questions, rows: Questions) -> dict[str, float]:
        """Accuracy, by kind, of the commonest answer to each wording among those learnt."""
        counts = np.zeros((len(self.wordings), len(self.answers)), np.int64)
        np.add.at(counts, (learnt.wording, learnt.answer), 1)
        right, kind = counts.argmax(1)[rows.wording] == rows.answer, self.kinds(rows)
        return {name: float(right[kind == index].mean()) for index, name in enumerate(KINDS)}

    def words(self, rows: Questions) -> dict[str, np.ndarray]:
        """The fields of `Examples` with an entry for each word, the answer after the question."""
        place = np.arange(len(rows.answer)), self.length[rows.wording]
        tokens, group = self.tokens[rows.wording], self.group[rows.wording]
        # Words of an open question are presupposed; "yes" affirms and a negation turns it round.
        is_yes = np.array([answer == "yes" for answer in self.answers])[rows.answer]
        true = self.is_open[rows.answer] | (is_yes != self.negated[rows.wording])
        grounded, target = (group != 0) & true[:, None], np.zeros(tokens.shape, bool)
        tokens[place] = self.answer_token[rows.answer]
        group[place] = self.answer_group[rows.answer]
        grounded[place] = target[place] = True
        return {"tokens": tokens, "group": group, "grounded": grounded[..., None], "target": target}


def _question_groups(said: list[str], answers: tuple[str, ...]) -> list[int]:
    groups = []
    for before, word in zip(["", *said], said, strict=False):
        if word in answers and word not in YES_NO:  # "no" before the answer is a negation
            groups.append(_answer_group(word))
        else:
            is_thing = word == "shape" and before != "what"
            groups.append(GROUPS.index("thing" if is_thing else "none"))
    return groups


def _answer_group(answer: str) -> int:
    if answer in YES_NO:
        return GROUPS.index("verdict")
    return GROUPS.index("shape" if answer in SHAPES else "colour")
