"""Alignment error rate: links of words to positions against sure and possible ones.

From word alignment of translations (Och & Ney 2003); of attention as in Garg et al. 2019. For a
picture the sure positions of a word are those that its region covers by half, the possible ones
those that it touches: `links_from_coverage`. The rate is one number of all T words together;
leading axes are separate texts, or heads and layers.
"""

import numpy as np

from crossattn.align.arguments import boolean, finite_numbers, not_empty, not_negative, of_one_shape
from crossattn.align.inputs import AttentionMaps
from crossattn.align.measures import Measure, register_measure
from crossattn.shapes import Bool, Float

__all__ = [
    "alignment_error_chance",
    "alignment_error_rate",
    "links_from_coverage",
    "soft_alignment_error_rate",
    "strongest_links",
]


def strongest_links(weights: Float[np.ndarray, "... T S"]) -> Bool[np.ndarray, "... T S"]:
    """A link from each word to the position of its largest weight, the first one of a tie.

    A row of zeros has no link.

    Raises:
      ValueError: another shape, or weights that are not finite.

    Example:
      >>> strongest_links(np.array([[0.1, 0.9], [0.0, 0.0]])).tolist()
      [[False, True], [False, False]]
    """
    weights = not_empty("weights", finite_numbers("weights", weights), "... T S")
    largest = np.arange(weights.shape[-1]) == weights.argmax(axis=-1)[..., None]
    return largest & (weights > 0)


def links_from_coverage(
    coverage: Float[np.ndarray, "... T S"],
) -> tuple[Bool[np.ndarray, "... T S"], Bool[np.ndarray, "... T S"]]:
    """Sure links (covered by half or more) and possible ones (covered at all).

    Raises:
      ValueError: another shape, or a coverage that is not finite.

    Example:
      >>> sure, possible = links_from_coverage(np.array([[0.0, 0.2, 0.5]]))
      >>> sure.tolist(), possible.tolist()
      ([[False, False, True]], [[False, True, True]])
    """
    coverage = not_empty("coverage", finite_numbers("coverage", coverage), "... T S")
    return coverage >= 0.5, coverage > 0


def alignment_error_rate(
    links: Bool[np.ndarray, "... T S"],
    sure: Bool[np.ndarray, "... T S"],
    possible: Bool[np.ndarray, "... T S"],
) -> Float[np.ndarray, "..."]:
    """AER: of links that are sure or possible, and of sure ones that are found, what is missing.

    1 - (n(A and S) + n(A and P)) / (n(A) + n(S)) for links A, sure ones S, possible ones P. 0 is
    best, 1 worst; the level of chance is `alignment_error_chance`. NaN where there is neither a
    link nor a sure one.

    Raises:
      ValueError: other shapes, arrays that are not boolean, a sure link that is not possible.

    Example:
      >>> yes = np.array([[True, False], [False, True]])
      >>> float(alignment_error_rate(np.array([[True, False], [True, False]]), yes, yes))
      0.5
    """
    links, sure, possible = _links(boolean("links", links), sure, possible)
    return _error_rate(links.astype(float), sure, possible)


def soft_alignment_error_rate(
    weights: Float[np.ndarray, "... T S"],
    sure: Bool[np.ndarray, "... T S"],
    possible: Bool[np.ndarray, "... T S"],
) -> Float[np.ndarray, "..."]:
    """AER with attention's mass in the place of counts of links.

    Between 0 and 1 where each row of weights has a sum of at most 1. NaN where there is neither
    mass nor a sure link.

    Raises:
      ValueError: as `alignment_error_rate`, or weights below 0 or not finite.

    Example:
      >>> yes = np.array([[True, False]])
      >>> float(soft_alignment_error_rate(np.array([[0.75, 0.25]]), yes, yes))
      0.25
    """
    weights = finite_numbers("weights", weights).astype(np.float64)
    weights, sure, possible = _links(weights, sure, possible)
    return _error_rate(not_negative("weights", weights), sure, possible)


def alignment_error_chance(
    sure: Bool[np.ndarray, "... T S"], possible: Bool[np.ndarray, "... T S"]
) -> Float[np.ndarray, "..."]:
    """The mean AER of one random link a word; constant attention has it as its soft AER.

    Raises:
      ValueError: as `alignment_error_rate`.

    Example:
      >>> yes = np.array([[True, False], [False, True]])
      >>> float(alignment_error_chance(yes, yes))
      0.5
    """
    sure = not_empty("sure", boolean("sure", sure), "... T S")
    constant = np.full(sure.shape, 1 / sure.shape[-1])
    return soft_alignment_error_rate(constant, sure, possible)


def _links(links, sure, possible):
    links, sure, possible = of_one_shape("... T S", links=links, sure=sure, possible=possible)
    not_empty("links", links, "... T S")
    sure, possible = boolean("sure", sure), boolean("possible", possible)
    if alone := int((sure & ~possible).sum()):
        raise ValueError(f"{alone} of {sure.sum()} sure links are not possible: each has to be")
    return links, sure, possible


def _error_rate(links, sure, possible):
    total = links.sum(axis=(-2, -1)) + sure.sum(axis=(-2, -1))
    right = (links * sure).sum(axis=(-2, -1)) + (links * possible).sum(axis=(-2, -1))
    return np.where(total > 0, 1 - right / np.where(total > 0, total, 1), np.nan)


def _random_links(maps: AttentionMaps) -> float:
    """AER of one random link a word, among the patches that show the picture."""
    even = maps.seen / maps.seen.sum(axis=1, keepdims=True)
    return float(soft_alignment_error_rate(even, *links_from_coverage(maps.coverage)))


def _aer(maps: AttentionMaps) -> float | None:
    links = strongest_links(maps.weights)
    rate = float(alignment_error_rate(links, *links_from_coverage(maps.coverage)))
    # Of small regions, no patch of which is sure, and attention that sees nothing.
    return None if np.isnan(rate) else rate


register_measure(
    Measure(
        "aer",
        "attention",
        AttentionMaps,
        _aer,
        "AER: the alignment error rate of all words together, each linked to its most attended "
        "patch; patches that the region covers by half are sure, those that it touches possible.",
        chance=_random_links,
        chance_meaning="Chance of AER: a patch picked at random for each word.",
        column="AER",
        lower_is_better=True,
    )
)
