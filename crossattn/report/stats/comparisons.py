"""Which variants of a suite differ: on its primary metric, and where its claims name another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossattn.report.results.runs import metric_values, tasks_of, variants_of
from crossattn.report.stats.aggregate import probability_of_improvement
from crossattn.report.stats.bootstrap import BOOTSTRAP, Bootstrap
from crossattn.report.stats.estimate import Estimate, estimate_paired, one_after_another
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.paired import ALPHA, decide, sign_flip, winners
from crossattn.report.stats.power import spread_of
from crossattn.report.stats.ranges import lower_is_better, range_of


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
        _add_once(pairs, (better, worse))
    return pairs


def on_metric(claim: Sequence[str], primary: str) -> str:
    """The metric of a claim: its own, or the primary one.

    Example:
        >>> on_metric(("a", "b"), "iid/accuracy"), on_metric(("a", "b", "mass/answer"), "x/y")
        ('iid/accuracy', 'mass/answer')
    """
    return claim[2] if len(claim) > 2 else primary


def _add_once(pairs, pair):
    if pair not in pairs and pair[::-1] not in pairs:
        pairs.append(pair)


def _asked(runs, primary, baseline, claims):
    """Pairs by metric: the primary one first, then those that claims name and both sides have."""
    variants = variants_of(runs)
    own = [claim[:2] for claim in claims if on_metric(claim, primary) == primary]
    asked = {primary: pairs_to_compare(variants, baseline=baseline, claims=own)}
    for claim in claims:
        pairs_to_compare(variants, baseline=baseline, claims=[claim[:2]])
        metric = on_metric(claim, primary)
        if metric != primary and all(len(metric_values(runs, name, metric)) for name in claim[:2]):
            _add_once(asked.setdefault(metric, []), tuple(claim[:2]))
    return {metric: pairs for metric, pairs in asked.items() if pairs}


def compare_variants(
    runs: Sequence[Mapping[str, Any]],
    items: Mapping[str, np.ndarray],
    *,
    primary: str,
    baseline: str,
    claims: Sequence[Sequence[str]] = (),
    equivalence: float = 0.0,
    bootstrap: Bootstrap = BOOTSTRAP,
) -> list[dict[str, Any]]:
    """Compare the variants of a suite on its primary metric; the list goes into results.json.

    Claims that name another metric are compared on that one, over seeds; they stand at the end.

    Args:
        runs: {variant, seed, metrics} of every run; all variants have the same seeds.
        items: for each variant the score of each evaluation item, shape (seeds, items), rows in
            the order of the seeds; empty if the primary metric is not a mean over items.
        primary: the one metric on which winners may be named; of two perplexities or losses the
            lower one is the better.
        baseline: the variant that all others are compared with.
        claims: declared pairs (better, worse) or (better, worse, metric); with the baseline's
            comparisons they are the family over which Holm's procedure runs. One whose metric a
            side does not have is left out.
        equivalence: a difference of the primary metric that does not matter; 0 asks for no test.
        bootstrap: resampling of seeds and items.

    Returns:
        For each comparison: variant, baseline, metric, difference, low, high (limits of the
        corrected interval, None under three seeds), p_holm, probability_of_improvement; and
        confidence (level of the interval), p, p_sign_flip, seed_differences, spread (fields of
        `power.Spread`, None under three seeds), seeds, items. Where `equivalence` is asked, those
        of the primary metric have margin and p_equivalent: by Holm, of a difference beyond it.

    Raises:
        ValueError: if variants do not share their seeds, lack the primary metric, or have items
            whose means are not their primary metric.
    """
    asked = _asked(runs, primary, baseline, claims)
    if not asked:
        return []
    _check_seeds(runs)
    measured = [
        _measured(runs, items, metric, pairs, bootstrap, equivalence)
        if metric == primary
        else _measured(runs, {}, metric, pairs, bootstrap)
        for metric, pairs in asked.items()
    ]
    found = decide(
        one_after_another([one.estimate for one in measured]),
        np.concatenate([one.p_sign_flip for one in measured]),
        span=np.concatenate([one.spans for one in measured]),
    )
    numbers = {
        name: [_number(value) for value in getattr(found, name)]
        for name in ("difference", "low", "high", "confidence", "p", "p_holm", "p_sign_flip")
    }
    rows = [row for one in measured for row in one.rows]
    return [
        {**row, **{name: values[index] for name, values in numbers.items()}}
        for index, row in enumerate(rows)
    ]


class _Measured(NamedTuple):
    """Pairs on one metric, before they are corrected for their number."""

    estimate: Estimate
    p_sign_flip: np.ndarray
    spans: np.ndarray
    rows: list[dict[str, Any]]


def _measured(runs, items, metric, pairs, bootstrap, margin=0.0):
    names = dict.fromkeys(name for pair in pairs for name in pair)
    scores = {name: _scores(runs, items, name, metric) for name in names}
    if len({score.shape for score in scores.values()}) > 1:
        shapes = ", ".join(f"{name} {score.shape}" for name, score in scores.items())
        raise ValueError(f"variants did not answer the same items: {shapes}")
    low, high = range_of(
        np.concatenate([metric_values(runs, name, metric) for name in names]), metric
    )
    sides = [np.stack([scores[name] for name in side]) for side in zip(*pairs, strict=True)]
    differences = sides[0] - sides[1]
    if not differences.size:
        raise ValueError(f"nothing to compare in items of shape {differences.shape}")
    rows = [
        {
            "variant": variant,
            "baseline": other,
            "metric": metric,
            "probability_of_improvement": _improvement(runs, variant, other, metric),
            "seed_differences": own.mean(1).tolist(),
            "spread": _spread(own),
            "seeds": len(own),
            "items": own.shape[1] if items else None,
        }
        for (variant, other), own in zip(pairs, differences, strict=True)
    ]
    estimate = estimate_paired(sides[0], sides[1], bootstrap)
    if margin:
        p = holm_adjusted(estimate.p_equivalent(margin)).tolist()
        rows = [
            {**row, "margin": margin, "p_equivalent": x} for row, x in zip(rows, p, strict=True)
        ]
    spans = np.full(len(pairs), high - low)
    return _Measured(estimate, sign_flip(differences.mean(-1)), spans, rows)


def _spread(differences):
    found = spread_of(differences)
    return found and dataclasses.asdict(found)


def _number(value):
    """A float that JSON can hold: NaN (no interval, no test) becomes None."""
    return None if np.isnan(value) else float(value)


def _check_seeds(runs):
    seeds: dict[str, set[int]] = {name: set() for name in variants_of(runs)}
    for run in runs:
        seeds[run["variant"]].add(run["seed"])
    first, *rest = seeds.items()
    for name, own in rest:
        if own != first[1]:
            raise ValueError(
                f"seeds are not paired: {first[0]} ran {sorted(first[1])}, {name} ran {sorted(own)}"
            )


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


def shown_equivalent(comparison: Mapping[str, Any]) -> bool:
    """Whether a comparison of results.json shows a difference smaller than the declared margin.

    Example:
        >>> shown_equivalent({"low": -0.01, "margin": 0.05, "p_equivalent": 0.003})
        True
        >>> shown_equivalent({"low": -0.01})  # the suite declares none
        False
    """
    tested = comparison["low"] is not None and "margin" in comparison
    return tested and comparison["p_equivalent"] < ALPHA
