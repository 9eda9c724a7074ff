"""How published sets are evaluated: soft accuracy, consistency, accuracy of pairs of captions.

Accuracy of GQA and of NLVR2 is the measure `accuracy`; text, image and group score of Winoground
are in `pairs`, R@K in `features`.
"""

import numpy as np

from crossattn.align.arguments import finite_numbers
from crossattn.align.inputs import Answers, CaptionContrasts, PeoplesAnswers
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Float

__all__ = ["contrast_accuracy", "group_consistency", "vqa_accuracy", "vqa_accuracy_of_one_answer"]

# An answer that three of the others gave is right.
ENOUGH = 3


def vqa_accuracy(said: np.ndarray, answers: np.ndarray) -> Float[np.ndarray, " N"]:
    """Soft accuracy of answers to N questions that A people answered (Antol et al. 2015, VQA).

    An answer counts min(n / 3, 1) where n people gave it; the mean over the A subsets that leave
    one person out. For ten people 1, 2, 3 and 4 equal answers give 0.3, 0.6, 0.9 and 1.

    Args:
      said: what a model answered (N,): numbers or texts, spelt as `answers` are.
      answers: of each person (N, A).

    Raises:
      ValueError: other shapes.

    Example:
      >>> people = np.array([["red"] * 2 + ["blue"] * 8])
      >>> [round(float(vqa_accuracy(np.array([one]), people)[0]), 3) for one in ("red", "blue")]
      [0.6, 1.0]
    """
    said, answers = np.asarray(said), np.asarray(answers)
    if answers.ndim != 2 or said.shape != answers.shape[:1] or not answers.shape[1]:
        raise ValueError(
            f"said has shape {said.shape}, answers {answers.shape}: (N,) and (N, A) are meant"
        )
    same = answers == said[:, None]
    # Of the people but one: all who said so, without that one.
    others = same.sum(axis=1, keepdims=True) - same
    return np.minimum(others / ENOUGH, 1).mean(axis=1)


def vqa_accuracy_of_one_answer(answers: np.ndarray) -> float:
    """The best `vqa_accuracy` of giving one and the same answer to all questions; -1 is none.

    Example:
      >>> vqa_accuracy_of_one_answer(np.array([[1] * 10, [2] * 10, [1] * 10]))
      0.6666666666666666
    """
    given = np.unique(answers[answers >= 0])
    if not len(given):
        return 0.0
    return max(float(vqa_accuracy(np.full(len(answers), one), answers).mean()) for one in given)


def group_consistency(right: np.ndarray, group: np.ndarray) -> Float[np.ndarray, " G"]:
    """1 for each group of answers that are all right, else 0 (Suhr et al. 2019, NLVR2).

    Args:
      right: whether each answer is right, (N,).
      group: the same for answers that are judged together, (N,), as for those to one sentence.

    Raises:
      ValueError: other shapes.

    Example:
      >>> group_consistency(np.array([1, 1, 1, 0]), np.array([7, 7, 8, 8])).tolist()
      [1.0, 0.0]
    """
    right, group = np.asarray(right), np.asarray(group)
    if right.ndim != 1 or right.shape != group.shape:
        raise ValueError(f"right has shape {right.shape}, group {group.shape}: (N,) is meant")
    names, which = np.unique(group, return_inverse=True)
    return (np.bincount(which[right == 0], minlength=len(names)) == 0).astype(float)


def contrast_accuracy(score: Float[np.ndarray, "..."]) -> Float[np.ndarray, " N"]:
    """1 where the true caption scores higher than the wrong one; a tie is wrong.

    SugarCrepe (Hsieh et al. 2023); pairwise accuracy of VALSE (Parcalabescu et al. 2022).

    Args:
      score: of the true caption and of the wrong one with the same image.

    Raises:
      ValueError: another shape, or scores that are not finite.

    Example:
      >>> contrast_accuracy(np.array([[2.0, 1.0], [1.0, 1.0]])).tolist()
      [1.0, 0.0]
    """
    score = finite_numbers("score", score)
    if score.ndim != 2 or score.shape[1] != 2:
        raise ValueError(f"score has shape {score.shape}: (N, 2) is meant, a caption and a foil")
    return (score[:, 0] > score[:, 1]).astype(float)


def _consistency(answers: Answers) -> np.ndarray | None:
    if answers.sentence is None:
        return None
    return group_consistency(answers.right, answers.sentence)


def _consistency_chance(answers: Answers) -> float | None:
    """Of guesses that are right with the chance of each answer, and independent."""
    if answers.sentence is None:
        return None
    _, which = np.unique(answers.sentence, return_inverse=True)
    every = np.ones(which.max() + 1)
    np.multiply.at(every, which, answers.chance)
    return float(every.mean())


register_measure(
    Measure(
        "vqa_accuracy",
        "task",
        PeoplesAnswers,
        lambda given: vqa_accuracy(given.said, given.answers),
        "VQA accuracy: min(n / 3, 1) where n people gave the answer, the mean over all but one of "
        "them.",
        chance=lambda given: vqa_accuracy_of_one_answer(given.answers),
        chance_meaning="Chance of VQA accuracy: the one answer that is best for all questions.",
        column="VQA accuracy",
        by_kind=True,
    )
)
register_measure(
    Measure(
        "consistency",
        "task",
        Answers,
        _consistency,
        "Consistency: how often all answers to the same sentence are right.",
        chance=_consistency_chance,
        chance_meaning="Chance of consistency: guesses that are right as often as chance of the "
        "accuracy says, and independent.",
    )
)
register_measure(
    Measure(
        "contrast",
        "task",
        CaptionContrasts,
        lambda pairs: contrast_accuracy(pairs.score),
        "Contrast: how often the true caption scores higher than one that is wrong.",
        chance=0.5,
        chance_meaning="Chance of contrast: scores that are random.",
        by_kind=True,
    )
)
