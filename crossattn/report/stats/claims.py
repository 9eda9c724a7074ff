"""What becomes of the claims of a suite: directions that were declared before it ran."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from crossattn.report.stats.comparisons import winner_of

VERDICTS = ("supported", "not supported", "inconclusive", "open", "not measured")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the comparisons say of one claim.

    Attributes:
        better: the variant that the claim calls better.
        worse: the other one.
        verdict: supported, not supported, inconclusive; open where runs are missing, not measured
            where a side has no such metric. The last two have no numbers.
        difference: better minus worse, with low and high, the limits of its interval.
        p_holm: its p-value.
        metric: on which; "" stands for the primary one.
    """

    better: str
    worse: str
    verdict: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None
    metric: str = ""


def judge_claims(
    claims: Sequence[Sequence[str]],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    unfinished: bool = False,
) -> list[Verdict]:
    """What the comparisons say of each claim (better, worse) or (better, worse, metric).

    Supported: `better` is the winner. Not supported: `worse` is. Inconclusive: no winner is named.
    Open: the two were not compared, while runs are still `unfinished`. Not measured: they were not
    compared on the metric that the claim names, for one of them has none.

    Raises:
        ValueError: the two were not compared, and all runs are there.

    Example:
        >>> found = {"variant": "b", "baseline": "a", "difference": -0.2, "low": -0.3,
        ...          "high": -0.1, "p_holm": 0.01}
        >>> [judge_claims([claim], [found])[0].verdict for claim in (("a", "b"), ("b", "a"))]
        ['supported', 'not supported']
    """
    return [_judge(*claim, comparisons=comparisons, unfinished=unfinished) for claim in claims]


def _judge(better, worse, metric="", *, comparisons, unfinished):
    for found in comparisons:
        if {found["variant"], found["baseline"]} != {better, worse}:
            continue
        # Those of the primary metric come first.
        if metric and found.get("metric") != metric:
            continue
        sign, low, high = 1, found["low"], found["high"]
        if found["variant"] == worse:
            sign, low, high = -1, _minus(high), _minus(low)
        verdict = {better: "supported", worse: "not supported", None: "inconclusive"}
        return Verdict(
            better=better,
            worse=worse,
            verdict=verdict[winner_of(found)],
            difference=sign * found["difference"],
            low=low,
            high=high,
            p_holm=found["p_holm"],
            metric=metric,
        )
    if unfinished:
        return Verdict(better, worse, "open", metric=metric)
    if metric:
        return Verdict(better, worse, "not measured", metric=metric)
    raise ValueError(f"{better!r} and {worse!r} were not compared")


def _minus(limit):
    return None if limit is None else -limit
