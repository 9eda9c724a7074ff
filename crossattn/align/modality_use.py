"""How much a model uses each modality: input ablation, perceptual score, Shapley values.

They run any function of a model. What they say holds for the data that they are run on.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from math import comb

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, not_empty, one_number_each
from crossattn.shapes import Bool, Float

__all__ = ["input_ablation", "perceptual_score", "shapley_values", "text_share"]

# 2^players values: 12 take 4,096 of them.
EXACT_PLAYERS = 12


def input_ablation(
    loss: Callable[[np.ndarray], np.ndarray], visible: Mapping[str, Bool[np.ndarray, "N P"]]
) -> dict[str, Float[np.ndarray, " N"]]:
    """Loss of each example with part of the other modality taken away, less that with all of it.

    Frank et al. 2021: {"object": ~region, "all": none} on words measures the influence of vision on
    language, the same with words taken away that of language on vision. 0 where what is taken away
    is not used.

    Args:
      loss: of N examples, (N,), while they see `visible` (N, P).
      visible: what is left to see, by name; one shape for all.

    Raises:
      ValueError: nothing to take away, masks of other shapes or not boolean, a loss that is not
        (N,) or not finite.

    Example:
      >>> loss = lambda visible: 1.0 - visible[:, 0]
      >>> effect = input_ablation(loss, {"all": np.zeros((2, 3), bool)})
      >>> effect["all"].tolist()
      [1.0, 1.0]
    """
    if not visible:
        raise ValueError("visible has no mask: name what is left to see, as {'all': none}")
    masks = {name: boolean(name, mask) for name, mask in visible.items()}
    shapes = {not_empty(name, mask, "N P").shape for name, mask in masks.items()}
    if len(shapes) > 1:
        raise ValueError(f"visible has masks of several shapes: {sorted(shapes)}")
    each = lambda mask: one_number_each("loss", loss(mask), len(mask))
    whole = each(np.ones(shapes.pop(), bool))
    return {name: each(mask) - whole for name, mask in masks.items()}


def perceptual_score(
    right: Callable[[np.ndarray], np.ndarray],
    examples: int,
    *,
    permutations: int = 5,
    seed: int = 0,
    normalise: bool = False,
) -> Float[np.ndarray, " N"]:
    """Accuracy less the one with one modality permuted over the test set (Gat et al. 2021).

    Of each example; the mean is the score: 0 where the modality is not used. Permutations are
    uniform, so that an example may keep its own.

    Args:
      right: whether each of N examples is right, (N,), with the modality of example order[i] in
        the place of that of example i.
      examples: N.
      permutations: over how many the accuracy is averaged.
      seed: of the permutations.
      normalise: divide by the accuracy of the model, as they do to compare models.

    Raises:
      ValueError: fewer than two examples, no permutation, `right` that is not (N,) or not finite,
        or nothing right to divide by.

    Example:
      >>> answers = np.array([0, 1, 0, 1])
      >>> score = perceptual_score(lambda order: answers[order] == answers, 4, permutations=100)
      >>> round(float(score.mean()), 1)
      0.5
    """
    if examples < 2 or permutations < 1:
        said = f"{examples} examples, {permutations} permutations"
        raise ValueError(f"two examples and a permutation are the least, got {said}")
    random = np.random.default_rng(seed)
    each = lambda order: one_number_each("right", right(order), examples)
    whole = each(np.arange(examples))
    permuted = [each(random.permutation(examples)) for _ in range(permutations)]
    score = whole - np.mean(permuted, axis=0)
    if normalise and not whole.any():
        raise ValueError("no example is right: there is no accuracy to divide by")
    return score / whole.mean() if normalise else score


def shapley_values(
    value: Callable[[np.ndarray], np.ndarray],
    players: int,
    *,
    permutations: int | None = None,
    seed: int = 0,
) -> Float[np.ndarray, " players"]:
    """Shapley value of each player: its mean gain over all orders in which players may come.

    They have the sum of value(all) - value(none).

    Args:
      value: of G coalitions (G, players), boolean, as G numbers; called with many of them at once.
      players: how many: the tokens and the regions of one example.
      permutations: None for exact values, of at most 12 players (2^12 coalitions). Otherwise the
        estimate of so many random orders, each with its reverse, which halves the error where
        gains grow or fall evenly.
      seed: of the orders.

    Raises:
      ValueError: no players, too many for exact values, no order, a value that is not (G,) or not
        finite.

    Example:
      >>> shapley_values(lambda z: z @ np.array([1.0, 2.0]), 2).tolist()
      [1.0, 2.0]
    """
    if players < 1 or (permutations is not None and permutations < 1):
        said = f"{players} players, {permutations} permutations"
        raise ValueError(f"one player and one order are the least, got {said}")
    if permutations is None and players > EXACT_PLAYERS:
        raise ValueError(
            f"{players} players have 2^{players} coalitions, exact values are for at most "
            f"{EXACT_PLAYERS}: say permutations=1000"
        )
    if permutations is None:
        return _exact_shapley(value, players)
    gains = [_gains(value, order) for order in _orders(players, permutations, seed)]
    return np.mean(gains, axis=0)


def text_share(
    contributions: Float[np.ndarray, "... players"], is_text: Bool[np.ndarray, " players"]
) -> Float[np.ndarray, "..."]:
    """T-SHAP: the share of the text in the absolute Shapley values.

    MM-SHAP (Parcalabescu & Frank 2023). Between 0 and 1; V-SHAP, the share of the image, is the
    rest. There is no level of chance: equal contributions of all players make it the share of
    players that are text. NaN where no player contributes.

    Raises:
      ValueError: other shapes, contributions that are not finite, `is_text` that is not boolean.

    Example:
      >>> float(text_share(np.array([1.0, -1.0, 2.0]), np.array([True, True, False])))
      0.5
    """
    contributions = finite_numbers("contributions", contributions)
    not_empty("contributions", contributions, "... players")
    is_text = boolean("is_text", is_text)
    if is_text.shape != contributions.shape[-1:]:
        said = f"contributions {contributions.shape}, is_text {is_text.shape}"
        raise ValueError(f"{said}: (..., players) and (players,) are meant")
    size = np.abs(contributions)
    total = size.sum(axis=-1)
    share = size[..., is_text].sum(axis=-1) / np.where(total > 0, total, 1)
    return np.where(total > 0, share, np.nan)


def _exact_shapley(value, players):
    coalitions = np.array(list(product([False, True], repeat=players)))
    worth = one_number_each("value", value(coalitions), len(coalitions))
    bits = 2 ** np.arange(players)[::-1]
    shares = np.zeros(players)
    for player in range(players):
        without = np.flatnonzero(~coalitions[:, player])
        others = coalitions[without].sum(axis=1)
        weight = 1 / np.array([players * comb(players - 1, n) for n in others.tolist()])
        shares[player] = weight @ (worth[without + bits[player]] - worth[without])
    return shares


def _orders(players, permutations, seed) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for _ in range(permutations):
        order = random.permutation(players)
        yield order
        yield order[::-1]


def _gains(value, order):
    place = np.argsort(order)
    coalitions = place < np.arange(len(order) + 1)[:, None]
    worth = one_number_each("value", value(coalitions), len(coalitions))
    return np.diff(worth)[place]
