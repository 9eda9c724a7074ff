"""Reading the runs of results.json: {variant, seed, metrics} each."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossattn.align.measures import Family, Metric, parse_metric
from crossattn.report.stats.aggregate import iqm_with_limits
from crossattn.report.stats.paired import t_interval
from crossattn.report.stats.ranges import clip_interval, lower_is_better, range_of
from crossattn.shapes import Float

# The content of results.json.
Results = Mapping[str, Any]
Runs = Sequence[Mapping[str, Any]]


def variants_of(runs: Runs) -> list[str]:
    """Names of the variants in the order of their first run.

    Example:
        >>> variants_of([{"variant": "b"}, {"variant": "a"}, {"variant": "b"}])
        ['b', 'a']
    """
    return list(dict.fromkeys(run["variant"] for run in runs))


def references_of(results: Results) -> Runs:
    """Reference rows of alignment tables, {variant, seed, metrics} as runs: untrained, random.

    They are in no comparison. Empty where an earlier version measured the baseline.

    Example:
        >>> references_of({"runs": []})
        []
    """
    found: Runs = results.get("references", [])
    return found


def metric_values(runs: Runs, variant: str, metric: str) -> Float[np.ndarray, " seeds"]:
    """Values of one metric, or of a cost, over the seeds of a variant, in the order of the seeds.

    Empty where the variant has no such metric (a blind model attends to nothing). A metric that
    some seeds have and others lack is an error, for the seeds would no longer be paired.

    Example:
        >>> runs = [{"variant": "a", "seed": s, "metrics": {"x": s / 2}} for s in (1, 0)]
        >>> metric_values(runs, "a", "x"), metric_values(runs, "a", "y")
        (array([0. , 0.5]), array([], dtype=float64))
    """
    own = sorted((run for run in runs if run["variant"] == variant), key=lambda run: run["seed"])
    amounts = [{**run["metrics"], **run.get("cost", {})} for run in own]
    found = [amount[metric] for amount in amounts if metric in amount]
    if found and len(found) != len(own):
        raise ValueError(f"{variant}: {len(found)} of {len(own)} seeds have the metric {metric!r}")
    return np.array(found, dtype=float)


def metrics_in(results: Results, *families: Family) -> list[Metric]:
    """The metrics of some kinds of evidence, of all where none is named.

    Raises:
        ValueError: a metric is that of no registered measure.

    Example:
        >>> runs = [{"metrics": {"iid/accuracy": 1.0, "mass/answer": 0.5}}]
        >>> [metric.name for metric in metrics_in({"runs": runs}, "attention")]
        ['mass/answer']
    """
    names = dict.fromkeys(name for run in results["runs"] for name in run["metrics"])
    found = map(parse_metric, names)
    return [metric for metric in found if not families or metric.measure.family in families]


def variants_with(runs: Runs, metrics: Sequence[str]) -> list[str]:
    """The variants that have at least one of the metrics.

    Example:
        >>> runs = [{"variant": "a", "metrics": {"x": 1}}, {"variant": "b", "metrics": {"y": 1}}]
        >>> variants_with(runs, ["x", "z"])
        ['a']
    """
    having = {run["variant"] for run in runs if any(name in run["metrics"] for name in metrics)}
    return [variant for variant in variants_of(runs) if variant in having]


def mean_with_interval(
    values: Float[np.ndarray, " seeds"], metric: str = ""
) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % t interval, cut to the range of the metric.

    The only source of intervals in tables and figures. Under three seeds the limits are NaN. What
    the range is, the metric's name says, or else the values do: all within [0, 1] are shares.

    Example:
        >>> [round(x, 3) for x in mean_with_interval(np.array([0.4, 0.5, 0.6]))]
        [0.5, 0.252, 0.748]
        >>> [round(x, 3) for x in mean_with_interval(np.array([0.98, 1.0, 1.0]))]
        [0.993, 0.965, 1.0]
        >>> mean_with_interval(np.array([0.8, 0.8]))
        (0.8, nan, nan)
    """
    low, high = t_interval(values)
    return float(values.mean()), *clip_interval(float(low), float(high), range_of(values, metric))


def chance_of(chance: Mapping[str, float], metric: str) -> float | None:
    """Chance level of a metric: its own, that of all its layers, or that of its family.

    Example:
        >>> chance = {"pointing/answer": 0.07, "knockout": 0.2}
        >>> chance_of(chance, "pointing/answer/layer1"), chance_of(chance, "knockout/truth")
        (0.07, 0.2)
        >>> chance_of(chance, "caption/exact") is None
        True
    """
    for name in (metric, metric.split("/layer")[0], metric.split("/")[0]):
        if name in chance:
            return chance[name]
    return None


def place_of(runs: Runs) -> str:
    """Where pointing is read: at answers, or where nothing is asked at the words of captions.

    Example:
        >>> place_of([{"metrics": {"pointing/caption": 0.5}}])
        'caption'
    """
    asked = any("pointing/answer" in run["metrics"] for run in runs)
    told = any("pointing/caption" in run["metrics"] for run in runs)
    return "caption" if told and not asked else "answer"


def tasks_of(runs: Runs, metric: str) -> list[str]:
    """The question types into which a metric is divided; the metric itself where it is not.

    Example:
        >>> tasks_of([{"metrics": {"iid/accuracy": 1, "iid/accuracy/colour": 1}}], "iid/accuracy")
        ['iid/accuracy/colour']
    """
    names = dict.fromkeys(name for run in runs for name in run["metrics"])
    return [name for name in names if name.startswith(metric + "/")] or [metric]


def normalised_scores(
    runs: Runs, variant: str, metric: str, *, chance: Mapping[str, float]
) -> Float[np.ndarray, "seeds tasks"] | None:
    """(score - chance) / (1 - chance) of a variant by seed and question type.

    None where the variant lacks one, a chance level is unknown, or the metric is no share.

    Example:
        >>> runs = [{"variant": "a", "seed": s, "metrics": {"x": 0.75}} for s in (0, 1)]
        >>> normalised_scores(runs, "a", "x", chance={"x": 0.5}).tolist()
        [[0.5], [0.5]]
    """
    if lower_is_better(metric):
        return None
    columns = []
    for task in tasks_of(runs, metric):
        values, floor = metric_values(runs, variant, task), chance_of(chance, task)
        if not len(values) or floor is None or floor == 1:
            return None
        columns.append((values - floor) / (1 - floor))
    return np.stack(columns, 1)


def scores_of_variants(
    results: Results, variants: Sequence[str], metric: str
) -> dict[str, Float[np.ndarray, "seeds tasks"]] | None:
    """`normalised_scores` of each variant; None where one of them has none."""
    found = {}
    for variant in variants:
        scores = normalised_scores(results["runs"], variant, metric, chance=results["chance"])
        if scores is None:
            return None
        found[variant] = scores
    return found


def normalised_iqm(
    runs: Runs,
    variant: str,
    metric: str,
    *,
    chance: Mapping[str, float],
) -> tuple[float, float, float] | None:
    """Interquartile mean over seeds and question types, with its 95 % bootstrap interval.

    Scores are (accuracy - chance) / (1 - chance), chance being the analytic accuracy of a model
    that does not see the image: 0 is blind and 1 perfect in every question type alike.

    Returns:
        (iqm, low, high), or None where the metric has fewer than two question types, the variant
        lacks one, or a chance level is unknown; limits are NaN under three seeds.
    """
    scores = normalised_scores(runs, variant, metric, chance=chance)
    return None if scores is None or scores.shape[1] < 2 else iqm_with_limits(scores)
