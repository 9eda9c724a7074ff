"""Explanations beside causal effects: do the parts that an explanation names matter?

An explanation gives each part of a picture a salience; hiding the part from attention changes the
score of the answer by its effect. Rank agreement of both says how far the explanation is faithful
to what the model uses (Jain & Wallace 2019; DeYoung et al. 2020); deletion and insertion say it of
several parts at once (RISE, Petsiuk et al. 2018).
"""

from collections.abc import Callable

import numpy as np

from crossattn.align.arguments import finite_numbers, not_empty, of_one_shape, one_number_each
from crossattn.align.inputs import ExplainedParts
from crossattn.align.measures import Measure, register_measure
from crossattn.align.ranking import kendall_tau, spearman_rho
from crossattn.shapes import Float, Int

__all__ = ["hiding_effects", "parts_of_grid", "rank_agreement", "sum_over_parts"]


def parts_of_grid(grid: tuple[int, int], side: int = 2) -> Int[np.ndarray, " P"]:
    """The part of each patch of a picture: squares of side x side patches, row by row.

    Example:
      >>> parts_of_grid((2, 4)).reshape(2, 4).tolist()
      [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rows, columns = grid
    if min(rows, columns, side) < 1:
        raise ValueError(f"grid and side are at least 1, got {grid} and {side}")
    row, column = np.divmod(np.arange(rows * columns), columns)
    return (row // side) * -(-columns // side) + column // side


def sum_over_parts(
    saliency: Float[np.ndarray, "... P"], parts: Int[np.ndarray, " P"]
) -> Float[np.ndarray, "... G"]:
    """The salience of parts: the sum over their patches.

    Example:
      >>> sum_over_parts(np.array([0.25, 0.25, 0.5]), np.array([0, 0, 1])).tolist()
      [0.5, 0.5]
    """
    saliency = finite_numbers("saliency", saliency)
    if parts.shape != saliency.shape[-1:]:
        raise ValueError(f"parts {parts.shape}: the part of each of {saliency.shape[-1:]} patches")
    return saliency @ (parts[:, None] == np.arange(parts.max() + 1)).astype(float)


def hiding_effects(
    score: Callable[[np.ndarray], np.ndarray], parts: Int[np.ndarray, " P"], count: int
) -> Float[np.ndarray, "N G"]:
    """By how much hiding each part alone lowers the score of each of `count` examples.

    Args:
      score: of N examples, (N,), while they see `visible` (N, P): log P of the answer.
      parts: the part of each patch.
      count: N.

    Raises:
      ValueError: scores that are not (N,), or not finite.

    Example:
      >>> used = np.array([0.5, 0.25, 0.25])
      >>> hiding_effects(lambda visible: visible @ used, np.array([0, 0, 1]), 1).tolist()
      [[0.75, 0.25]]
    """
    seen = lambda part: np.broadcast_to(parts != part, (count, len(parts)))
    whole = one_number_each("score", score(seen(-1)), count)
    hidden = [one_number_each("score", score(seen(g)), count) for g in range(parts.max() + 1)]
    return whole[:, None] - np.stack(hidden, axis=-1)


def rank_agreement(
    saliency: Float[np.ndarray, "... G"], effect: Float[np.ndarray, "... G"]
) -> dict[str, Float[np.ndarray, "..."]]:
    """Spearman's rho (1904) and Kendall's tau-b (1938, 1945) of single items, ties shared.

    1: the most salient parts are those that matter most; 0: no order in common, the level of
    chance. NaN where all parts are equally salient, or all matter alike: there is no order.

    Raises:
      ValueError: other shapes, under two parts, or numbers that are not finite.

    Example:
      >>> found = rank_agreement(np.array([[3.0, 2.0, 1.0]]), np.array([[0.9, 0.0, 0.4]]))
      >>> found["spearman"].round(6).tolist(), found["kendall"].round(6).tolist()
      ([0.5], [0.333333])
    """
    saliency, effect = of_one_shape(
        "... G", saliency=finite_numbers("saliency", saliency), effect=effect
    )
    effect = not_empty("effect", finite_numbers("effect", effect), "... G")
    if saliency.shape[-1] < 2:
        raise ValueError(f"a ranking has at least 2 parts, got {saliency.shape}")
    return {"spearman": spearman_rho(saliency, effect), "kendall": kendall_tau(saliency, effect)}


def _agreement(name):
    # Where there is no order, there is none to agree with: what chance would reach.
    return lambda one: np.nan_to_num(rank_agreement(one.saliency, one.effect)[name], nan=0.0)


for _name, _column, _of in (
    ("spearman", "Spearman", "Spearman's rho"),
    ("kendall", "Kendall", "Kendall's tau-b"),
):
    register_measure(
        Measure(
            _name,
            "causal",
            ExplainedParts,
            _agreement(_name),
            f"Rank agreement ({_of}) of what an explanation says of the parts of a picture with "
            "the fall of log P(answer) when the part is hidden from attention, mean over answers; "
            "an answer for which all parts are alike counts as 0.",
            chance=0.0,
            chance_meaning="Chance of rank agreement: a random order of the parts.",
            column=_column,
            limits=(-1.0, 1.0),
        )
    )
register_measure(
    Measure(
        "deletion",
        "causal",
        ExplainedParts,
        lambda one: one.deletion,
        "Deletion: the area under P(answer) while the parts are hidden one after the other, the "
        "most salient first; a faithful explanation has a small one.",
        lower_is_better=True,
    )
)
register_measure(
    Measure(
        "insertion",
        "causal",
        ExplainedParts,
        lambda one: one.insertion,
        "Insertion: the area under P(answer) while nothing is seen at first and the parts are "
        "shown one after the other, the most salient first; a faithful explanation has a large "
        "one.",
    )
)
