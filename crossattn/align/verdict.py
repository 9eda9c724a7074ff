"""Does a model use what it attends to? Attention and causal use, judged together.

Attention shows where a model looks, a knock-out what its answers depend on. Neither implies the
other (Jain & Wallace 2019; Wiegreffe & Pinter 2019), so a verdict needs both.
"""

from typing import Literal

__all__ = ["NEGLIGIBLE", "Use", "judge_use"]

Use = Literal[
    "uses where it attends",
    "attends but does not use",
    "uses without attending",
    "neither",
    "inconclusive",
]
# Differences of shares (of words pointed at, of right answers) that count as none.
NEGLIGIBLE = 0.05


def judge_use(
    attends: tuple[float, float], uses: tuple[float, float], *, negligible: float = NEGLIGIBLE
) -> Use:
    """The verdict on two intervals.

    A side is absent where its interval ends at or below `negligible`, and there where the interval
    lies above 0 and ends beyond that; else the data do not decide. An interval that merely contains
    0 shows nothing: a few items or seeds would call every model "neither".

    Args:
      attends: interval (low, high) of pointing at the true region, or of the mass of attention in
        it, minus its chance level.
      uses: interval of the accuracy without an equal random region minus that without the true one.
      negligible: the largest difference that counts as none.

    Raises:
      ValueError: limits in the wrong order, or `negligible` below 0.

    Example:
      >>> judge_use((0.4, 0.6), (-0.01, 0.02))
      'attends but does not use'
      >>> judge_use((0.4, 0.6), (-0.1, 0.3))
      'inconclusive'
    """
    if negligible < 0:
        raise ValueError(f"negligible is at least 0, got {negligible}")
    sides = [_is_there(*limits, negligible) for limits in (attends, uses)]
    if None in sides:
        return "inconclusive"
    verdicts: dict[tuple[bool | None, ...], Use] = {
        (True, True): "uses where it attends",
        (True, False): "attends but does not use",
        (False, True): "uses without attending",
        (False, False): "neither",
    }
    return verdicts[tuple(sides)]


def _is_there(low: float, high: float, negligible: float) -> bool | None:
    """None where the interval (its limits may be NaN: none is known) does not decide."""
    if low > high:
        raise ValueError(f"an interval is (low, high), got ({low}, {high})")
    if high <= negligible:
        return False
    return True if low > 0 else None
