"""What a model uses, by taking positions away: deletion, insertion, knock-out.

They run any function of which positions a model may see. Hide the others as fits the question: from
attention, with a key mask (Geva et al. 2023), or from the input, by a grey or blurred picture:

    def score(visible):  # (N, P) -> (N,)
        return probability_of_the_answer(images * visible[..., None], questions)
"""

from collections.abc import Callable

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, not_empty, one_number_each
from crossattn.shapes import Bool, Float

__all__ = [
    "curve_area",
    "deletion_curve",
    "insertion_curve",
    "knockout_effect",
    "knockouts",
    "removal_steps",
]

Score = Callable[[np.ndarray], np.ndarray]


def removal_steps(saliency: Float[np.ndarray, "N P"], step: int = 1) -> Bool[np.ndarray, "K1 N P"]:
    """Which positions are left as the most salient ones go, `step` more each time, to none at all.

    K + 1 states: the first has all positions, the last has none, and the last step may be short.
    Of equal saliency the first position goes first. `~removal_steps(...)` inserts.

    Raises:
      ValueError: another shape, a saliency that is not finite, a step below 1.

    Example:
      >>> removal_steps(np.array([[0.2, 0.5, 0.3]]), 2).astype(int).tolist()
      [[[1, 1, 1]], [[1, 0, 0]], [[0, 0, 0]]]
    """
    saliency = not_empty("saliency", finite_numbers("saliency", saliency), "N P")
    if step < 1:
        raise ValueError(f"step is at least 1, got {step}")
    order = np.argsort(-saliency, axis=-1, kind="stable")
    place = np.argsort(order, axis=-1, kind="stable")
    chunks = -(-saliency.shape[-1] // step)
    return place >= step * np.arange(chunks + 1)[:, None, None]


def deletion_curve(
    score: Score, saliency: Float[np.ndarray, "N P"], step: int = 1
) -> Float[np.ndarray, "N K1"]:
    """Scores as the most salient positions are removed: it should fall fast.

    RISE (Petsiuk et al. 2018). Its first point is the score with everything, its last the one with
    nothing. `curve_area` makes it a number; its level of chance is that of random saliency.

    Args:
      score: of N examples, (N,), while they see `visible` (N, P): the probability of the answer.
      saliency: an explanation of each of them: attention, rollout, relevancy.
      step: how many positions go at once.

    Raises:
      ValueError: as `removal_steps`, or scores of another shape or not finite.

    Example:
      >>> used = np.array([[0.75, 0.25, 0.0]])
      >>> deletion_curve(lambda visible: (used * visible).sum(axis=-1), used).tolist()
      [[1.0, 0.25, 0.0, 0.0]]
    """
    return _curve(score, removal_steps(saliency, step))


def insertion_curve(
    score: Score, saliency: Float[np.ndarray, "N P"], step: int = 1
) -> Float[np.ndarray, "N K1"]:
    """Scores as the most salient positions are inserted into nothing: it should rise fast.

    Arguments, errors and level of chance are those of `deletion_curve`.

    Example:
      >>> used = np.array([[0.75, 0.25, 0.0]])
      >>> insertion_curve(lambda visible: (used * visible).sum(axis=-1), used).tolist()
      [[0.0, 0.75, 1.0, 1.0]]
    """
    return _curve(score, ~removal_steps(saliency, step))


def curve_area(curve: Float[np.ndarray, "... K1"]) -> Float[np.ndarray, "..."]:
    """Area under a curve of K + 1 equally spaced points over [0, 1], by the trapezoidal rule.

    A last step that is short counts as a whole one, as in RISE.

    Raises:
      ValueError: fewer than two points, or not finite.

    Example:
      >>> float(curve_area(np.array([1.0, 0.25, 0.0, 0.0])))
      0.25
    """
    curve = not_empty("curve", finite_numbers("curve", curve), "... K+1")
    if curve.shape[-1] < 2:
        raise ValueError(f"curve {curve.shape}: two points or more are meant, (..., K+1)")
    return np.asarray(((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1))


def knockouts(
    truth: Bool[np.ndarray, "N P"],
    random: np.random.Generator,
    shown: Bool[np.ndarray, "N P"] | None = None,
) -> dict[str, Bool[np.ndarray, "N P"]]:
    """What stays visible when a region is knocked out (Geva et al. 2023).

    Args:
      truth: positions that the true region touches at all, at most half of them.
      random: source of the random regions.
      shown: positions that show anything, among which these are drawn; all if None.

    Returns:
      "truth": all but the true region; "random": all but as many positions drawn outside of it;
      "rest": the true region alone.

    Raises:
      ValueError: where so many positions are true that there are not as many others.

    Example:
      >>> seen = knockouts(np.array([[True, False, False]]), np.random.default_rng(0))
      >>> {name: int(visible.sum()) for name, visible in seen.items()}
      {'truth': 2, 'random': 2, 'rest': 1}
    """
    there = np.ones(truth.shape, bool) if shown is None else shown
    if (2 * truth.sum(axis=1) > there.sum(axis=1)).any():
        raise ValueError("a region over half the positions leaves no room for a random one")
    # Order the positions of each row at random, the true ones and what shows nothing last: the
    # first n are the region.
    order = np.argsort(random.random(truth.shape) + (truth | ~there), axis=1)
    rank = np.argsort(order, axis=1)
    return {"truth": ~truth, "random": rank >= truth.sum(axis=1, keepdims=True), "rest": truth}


def knockout_effect(
    score: Score, region: Bool[np.ndarray, "N P"], *, seed: int = 0
) -> dict[str, Float[np.ndarray, " N"]]:
    """Scores while positions are hidden: none, the region, as many others, all but the region.

    A model uses the region where "truth" is far below "intact" and "random" is not: that one is the
    level of chance.

    Args:
      score: of N examples, (N,), while they see `visible` (N, P).
      region: positions of each that are said to matter, at most half of them.
      seed: of the random others.

    Raises:
      ValueError: a region that is not boolean, of another shape or over half the positions, or
        scores not (N,) or not finite.

    Example:
      >>> region = np.array([[True, False, False]])
      >>> effect = knockout_effect(lambda visible: visible[:, 0], region)
      >>> {name: values.tolist() for name, values in effect.items()}
      {'intact': [1.0], 'truth': [0.0], 'random': [1.0], 'rest': [1.0]}
    """
    region = not_empty("region", boolean("region", region), "N P")
    visible = knockouts(region, np.random.default_rng(seed))
    visible = {"intact": np.ones_like(region), **visible}
    return {name: _scores(score, seen) for name, seen in visible.items()}


def _scores(score, visible):
    return one_number_each("score", score(visible), len(visible))


def _curve(score, states):
    return np.stack([_scores(score, visible) for visible in states], axis=-1)
