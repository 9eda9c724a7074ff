"""Answers to questions: right or wrong, of all kinds of questions and of each."""

import numpy as np

from crossattn.align.inputs import Answers
from crossattn.align.measures import Measure, register_measure

TEXT_ONLY = (
    "Chance, where it is known: the accuracy of the best predictor that reads only the text and "
    "has learnt the answers of the training data."
)


def _open(answers: Answers) -> np.ndarray | None:
    chosen = answers.is_open
    return answers.right[chosen] if chosen.any() and not chosen.all() else None


register_measure(
    Measure(
        "accuracy",
        "task",
        Answers,
        lambda answers: answers.right,
        "Accuracy of answers, to all questions and by question type.",
        chance=lambda answers: answers.chance,
        chance_meaning=TEXT_ONLY,
        column="all",
        by_kind=True,
    )
)
register_measure(
    Measure(
        "open",
        "task",
        Answers,
        _open,
        "Open: questions whose answer names something in the picture.",
        chance=lambda answers: answers.chance[answers.is_open],
        chance_meaning=TEXT_ONLY,
    )
)
