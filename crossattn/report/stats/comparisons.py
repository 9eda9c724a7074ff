"""Which variants of a suite differ on its primary metric, and what becomes of its claims."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.report.results.runs import metric_values, tasks_of, variants_of
from crossattn.report.stats.aggregate import probability_of_improvement
from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.paired import compare_paired, winners
from crossattn.report.stats.power import spread_of
from crossattn.report.stats.ranges import lower_is_better, range_of


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the comparisons say of one claim: supported, not supported, inconclusive, or open.

    An open claim is one whose runs are not all there: it has no numbers.
    """

    better: str
    worse: str
    verdict: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_holm: float | None = None


def pairs_to_compare(
    variants: Sequence[str], *, baseline: str, claims: Sequence[Sequence[str]]
) -> list[tuple[str, str]]:
    """(variant, baseline) of every comparison: all variants against the baseline, and the claims.

    A pair counts once in whichever order it is claimed, since a two-sided test has no order.

    Raises:
        ValueError: if the baseline or a claim names a variant that did not run, or a claim
            compares a variant with itself.

    Example:
        >>> pairs_to_compare(["a", "b", "c"], baseline="a", claims=[("a", "b"), ("c", "b")])
        [('b', 'a'), ('c', 'a'), ('c', 'b')]
    """
    for name in [baseline, *(name for claim in claims for name in claim)]:
        if name not in variants:
            raise ValueError(f"no variant {name!r}; there are: {', '.join(variants)}")
    pairs = [(variant, baseline) for variant in variants if variant != baseline]
    for better, worse in claims:
        if better == worse:
            raise ValueError(f"a claim compares {better!r} with itself")
        if (better, worse) not in pairs and (worse, better) not in pairs:
            pairs.append((better, worse))
    return pairs


def compare_variants(
    runs: Sequence[Mapping[str, Any]],
    items: Mapping[str, np.ndarray],
    *,
    primary: str,
    baseline: str,
    claims: Sequence[Sequence[str]] = (),
    bootstrap: Bootstrap = BOOTSTRAP,
) -> list[dict[str, Any]]:
    """Compare the variants of a suite on its primary metric; the list goes into results.json.

    Args:
        runs: {variant, seed, metrics} of every run; all variants have the same seeds.
        items: for each variant the score of each evaluation item, shape (seeds, items), rows in
            the order of the seeds; empty if the primary metric is not a mean over items.
        primary: the one metric on which winners may be named; of two perplexities or losses the
            lower one is the better.
        baseline: the variant that all others are compared with.
        claims: declared pairs (better, worse); with the baseline's comparisons they are the family
            over which Holm's procedure runs.
        bootstrap: resampling of seeds and items.

    Returns:
        For each comparison: variant, baseline, metric, difference, low, high (limits of the
        corrected interval, None under three seeds), p_holm, probability_of_improvement; and
        confidence (level of the interval), p, p_sign_flip, seed_differences, spread (fields of
        `power.Spread`, None under three seeds), seeds, items.

    Raises:
        ValueError: if variants do not share their seeds, lack the primary metric, or have items
            whose means are not their primary metric.
    """
    pairs = pairs_to_compare(variants_of(runs), baseline=baseline, claims=claims)
    if not pairs:
        return []
    seeds = _shared_seeds(runs)
    scores = {name: _scores(runs, items, name, primary) for name in variants_of(runs)}
    if len({score.shape for score in scores.values()}) > 1:
        shapes = ", ".join(f"{name} {score.shape}" for name, score in scores.items())
        raise ValueError(f"variants did not answer the same items: {shapes}")
    values = np.concatenate([metric_values(runs, name, primary) for name in scores])
    low, high = range_of(values, primary)
    found = compare_paired(
        np.stack([scores[variant] for variant, _ in pairs]),
        np.stack([scores[other] for _, other in pairs]),
        span=high - low,
        bootstrap=bootstrap,
    )
    numbers = {
        name: [_number(value) for value in getattr(found, name)]
        for name in ("difference", "low", "high", "confidence", "p", "p_holm", "p_sign_flip")
    }
    count = scores[baseline].shape[1] if items else None
    return [
        {
            "variant": variant,
            "baseline": other,
            "metric": primary,
            **{name: values[index] for name, values in numbers.items()},
            "probability_of_improvement": _improvement(runs, variant, other, primary),
            "seed_differences": (scores[variant] - scores[other]).mean(1).tolist(),
            "spread": _spread(scores[variant] - scores[other]),
            "seeds": len(seeds),
            "items": count,
        }
        for index, (variant, other) in enumerate(pairs)
    ]


def _spread(differences):
    found = spread_of(differences)
    return found and dataclasses.asdict(found)


def _number(value):
    """A float that JSON can hold: NaN (no interval, no test) becomes None."""
    return None if np.isnan(value) else float(value)


def _shared_seeds(runs):
    seeds: dict[str, set[int]] = {name: set() for name in variants_of(runs)}
    for run in runs:
        seeds[run["variant"]].add(run["seed"])
    first, *rest = seeds.items()
    for name, own in rest:
        if own != first[1]:
            raise ValueError(
                f"seeds are not paired: {first[0]} ran {sorted(first[1])}, {name} ran {sorted(own)}"
            )
    return first[1]


def _scores(runs, items, variant, primary):
    """Scores (seeds, items) of a variant, checked against its primary metric."""
    values = metric_values(runs, variant, primary)
    if not len(values):
        raise ValueError(f"{variant} lacks the primary metric {primary!r}")
    if not items:
        return values[:, None]
    if variant not in items:
        raise ValueError(f"no items of {variant}; there are: {', '.join(items)}")
    scores = np.asarray(items[variant], dtype=float)
    # A wrong order of rows or columns would pair what does not belong together.
    if len(scores) != len(values) or np.abs(scores.mean(1) - values).max() > 1e-4:
        raise ValueError(f"items of {variant} {scores.shape} do not average to {primary}: {values}")
    return scores


def _improvement(runs, variant, other, primary):
    tasks = tasks_of(runs, primary)
    stacks = [
        np.stack([metric_values(runs, name, task) for task in tasks], 1)
        for name in (variant, other)
    ]
    return probability_of_improvement(*(stacks[::-1] if lower_is_better(primary) else stacks))


def winner_of(comparison: Mapping[str, Any]) -> str | None:
    """The better variant of a comparison of results.json, or None where none may be named.

    Better is what has the larger value of the metric, or the smaller perplexity or loss.

    Example:
        >>> found = {"variant": "a", "baseline": "b", "low": -0.3, "high": -0.1, "p_holm": 0.01}
        >>> winner_of(found), winner_of({**found, "high": 0.1})
        ('b', None)
    """
    # None becomes NaN, which is outside no interval.
    limits = np.array([[comparison[name]] for name in ("low", "high", "p_holm")], dtype=float)
    side = winners(limits[0], limits[1], limits[2])
    sign = -1 if lower_is_better(comparison.get("metric", "")) else 1
    return {1: comparison["variant"], -1: comparison["baseline"], 0: None}[sign * int(side[0])]


def judge_claims(
    claims: Sequence[Sequence[str]],
    comparisons: Sequence[Mapping[str, Any]],
    *,
    unfinished: bool = False,
) -> list[Verdict]:
    """What the comparisons say of each claim (better, worse).

    Supported: `better` is the winner. Not supported: `worse` is. Inconclusive: no winner is named.
    Open: the two were not compared, while runs are still `unfinished`.

    Raises:
        ValueError: the two were not compared, and all runs are there.

    Example:
        >>> found = {"variant": "b", "baseline": "a", "difference": -0.2, "low": -0.3,
        ...          "high": -0.1, "p_holm": 0.01}
        >>> [judge_claims([claim], [found])[0].verdict for claim in (("a", "b"), ("b", "a"))]
        ['supported', 'not supported']
    """
    return [_judge(better, worse, comparisons, unfinished) for better, worse in claims]


def _judge(better, worse, comparisons, unfinished):
    for found in comparisons:
        if {found["variant"], found["baseline"]} != {better, worse}:
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
        )
    if unfinished:
        return Verdict(better, worse, "open")
    raise ValueError(f"{better!r} and {worse!r} were not compared")


def _minus(limit):
    return None if limit is None else -limit
