"""Which heads of a decoder point at what they write: by truth, by agreement, by knock-out.

A few heads of models of speech and of translation follow the input from left to right (Whisper's
are published beside it; in translation Voita et al. 2019, Garg et al. 2019). Each function takes
maps or model calls of several clips and returns a score for each head, with its 95 % interval over
their words.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, not_empty, of_one_shape
from crossattn.align.attention import pointing, pointing_chance
from crossattn.align.word_times import alignment_matrix, warping_path
from crossattn.shapes import Bool, Float

__all__ = ["HeadScores", "find_alignment_heads", "head_knockouts", "knockout_scores"]

Z = 1.96
# Rounds of choosing the heads whose path the others are compared with.
ROUNDS = 4


@dataclasses.dataclass(frozen=True, eq=False)
class HeadScores:
    """A score of each head of each layer.

    Attributes:
      score: (L, H), the mean over words.
      low: (L, H), lower limit of its 95 % interval, words taken as independent.
      high: (L, H), upper limit.
      chance: what a head scores that knows nothing.
      words: how many there were.

    Example:
      >>> scores = find_alignment_heads([np.eye(4)[None, None]], [np.eye(4, dtype=bool)])
      >>> scores.ranked(), scores.chance, scores.words
      ([(0, 0)], 0.25, 4)
    """

    score: Float[np.ndarray, "L H"]
    low: Float[np.ndarray, "L H"]
    high: Float[np.ndarray, "L H"]
    chance: float
    words: int

    def ranked(self) -> list[tuple[int, int]]:
        """(layer, head) of all heads, the best first."""
        heads = self.score.shape[1]
        order = np.argsort(-self.score, axis=None, kind="stable")
        return [(int(place) // heads, int(place) % heads) for place in order]

    def above(self, least: float | None = None) -> list[tuple[int, int]]:
        """Those whose interval lies above a score, above chance if None; the best first."""
        least = self.chance if least is None else least
        return [head for head in self.ranked() if self.low[head] > least]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each head, the best first: layer, head, score, low, high."""
        numbers = {"score": self.score, "low": self.low, "high": self.high}
        return [
            {"layer": head[0], "head": head[1]}
            | {name: float(value[head]) for name, value in numbers.items()}
            for head in self.ranked()
        ]


def find_alignment_heads(
    maps: Sequence[Float[np.ndarray, "L H _T _S"]],
    regions: Sequence[Bool[np.ndarray, "_T _S"]] | None = None,
    *,
    slack: int = 5,
) -> HeadScores:
    """How often each head looks most at the frames of the word that is written.

    With true regions, at these: the pointing game. Without them, at those where the heads agree
    that the token is: between its first and last frame, and `slack` more, on the warping path
    through the half of the heads that agree best, found by turns from all of them.

    Args:
      maps: of each clip, weights of the rows that predict its T tokens, over the frames of its
        sound.
      regions: which frames each token is about; rows without any are left out.
      slack: frames on both sides.

    Raises:
      ValueError: no clip, arrays that do not fit, no word with a region.

    Example:
      >>> good, bad = np.repeat(np.eye(3), 40, axis=1), np.full((3, 120), 1 / 120)
      >>> find_alignment_heads([np.stack([bad, good])[None]]).ranked()[0]
      (0, 1)
    """
    maps = [not_empty("maps", finite_numbers("maps", one), "L H T S") for one in maps]
    if not maps or len({one.shape[:2] for one in maps}) > 1:
        raise ValueError("give maps (L, H, T, S) of one clip or more, all of one model")
    if regions is None:
        regions = _agreed(maps, slack)
    if len(regions) != len(maps):
        raise ValueError(f"there are {len(maps)} clips and regions of {len(regions)}")
    hits, chance = [], []
    for weights, region in zip(maps, regions, strict=True):
        of_one_shape("T S", region=region, weights=weights[0, 0])
        known = boolean("region", region).any(axis=-1)
        each = np.broadcast_to(region[known], (*weights.shape[:2], known.sum(), region.shape[1]))
        hits.append(pointing(weights[:, :, known], each))
        chance.append(pointing_chance(region[known]))
    everywhere = np.concatenate(hits, axis=-1)
    count = everywhere.shape[-1]
    if not count:
        raise ValueError("no word has a region")
    share = everywhere.mean(axis=-1)
    low, high = _wilson(share, count)
    return HeadScores(share, low, high, float(np.concatenate(chance).mean()), count)


def _wilson(share: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The interval of Wilson (1927), which is none of length 0 where all or no words are hit."""
    middle = (share + Z**2 / (2 * count)) / (1 + Z**2 / count)
    half = Z / (1 + Z**2 / count) * np.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
    return np.maximum(middle - half, 0), np.minimum(middle + half, 1)


def _agreed(maps, slack):
    """Where the heads agree that each token is, of each clip."""
    L, H = maps[0].shape[:2]
    chosen = np.arange(L * H)
    for _ in range(ROUNDS):
        regions = [_on_path(one.reshape(L * H, *one.shape[2:])[chosen], slack) for one in maps]
        scores = find_alignment_heads(maps, regions).score.ravel()
        best = np.sort(np.argsort(-scores, kind="stable")[: max(1, L * H // 2)])
        if np.array_equal(best, chosen):
            break
        chosen = best
    return regions


def _on_path(weights, slack):
    """(T, S), whether the warping path has a frame for a token, or is at most `slack` from it."""
    T, S = weights.shape[1:]
    tokens, frames = warping_path(alignment_matrix(weights))
    places = np.arange(S)
    bounds = [frames[tokens == token][[0, -1]] for token in range(T)]
    return np.stack([(places >= a - slack) & (places <= b + slack) for a, b in bounds])


def head_knockouts(
    log_likelihood: Callable[[Bool[np.ndarray, "L H T S"]], Float[np.ndarray, " T"]],
    heads: tuple[int, int],
    frames: Bool[np.ndarray, "T S"],
) -> Float[np.ndarray, "L H T"]:
    """What the model's words lose when one head after the other may not read these frames.

    Args:
      log_likelihood: of the T tokens of a clip, natural logarithms, while heads may not read what
        is True (in crossattn "edges" of `interventions`).
      heads: L layers and H heads.
      frames: which ones are hidden from the row of each token: those of its word, or all, so that
        the head reads nothing.

    Returns:
      drops: log-likelihood with nothing hidden minus that without; above 0 where the head is of
        use.

    Raises:
      ValueError: numbers that are not finite, or are not one for each token.

    Example:
      >>> model = lambda hidden: np.array([-1.0, -2.0]) - hidden[0, 1].any(axis=-1)
      >>> head_knockouts(model, (1, 2), np.ones((2, 3), bool)).tolist()
      [[[0.0, 0.0], [1.0, 1.0]]]
    """
    frames = not_empty("frames", boolean("frames", frames), "T S")
    hidden = np.zeros((*heads, *frames.shape), bool)
    before = _checked(log_likelihood(hidden.copy()), len(frames))
    drops = np.empty((*heads, len(frames)))
    for head in np.ndindex(heads):
        one = hidden.copy()
        one[head] = frames
        drops[head] = before - _checked(log_likelihood(one), len(frames))
    return drops


def _checked(values, count):
    values = finite_numbers("log_likelihood", values)
    if values.shape != (count,):
        raise ValueError(f"log_likelihood gives one number of each of {count}, got {values.shape}")
    return values.astype(np.float64)


def knockout_scores(drops: Sequence[Float[np.ndarray, "L H _T"]]) -> HeadScores:
    """The mean drop of each head over the words of all clips, with Student's interval; chance is 0.

    Raises:
      ValueError: drops that are not finite, of several models, or of fewer than two words.

    Example:
      >>> knockout_scores([np.array([[[0.0, 0.0], [1.0, 3.0]]])]).score.tolist()
      [[0.0, 2.0]]
    """
    from scipy.stats import t

    each = [not_empty("drops", finite_numbers("drops", one), "L H T") for one in drops]
    if not each or len({one.shape[:2] for one in each}) > 1:
        raise ValueError("give drops (L, H, T) of one clip or more, all of one model")
    everywhere = np.concatenate(each, axis=-1)
    count = everywhere.shape[-1]
    if count < 2:
        raise ValueError("an interval takes two words or more, got 1")
    mean = everywhere.mean(axis=-1)
    half = t.ppf(0.975, count - 1) * everywhere.std(axis=-1, ddof=1) / np.sqrt(count)
    return HeadScores(mean, mean - half, mean + half, 0.0, count)
