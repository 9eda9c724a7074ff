"""The methods section of a paper: what is measured, and how it is compared."""

from collections.abc import Iterator

from crossattn.align.inputs import RetrievalScores, SwapPairs
from crossattn.align.measures import find_metric
from crossattn.report import prose
from crossattn.report.results.counts import by_split, count
from crossattn.report.results.runs import Results, place_of
from crossattn.report.results.settings import listed
from crossattn.report.stats.bootstrap import BOOTSTRAP
from crossattn.report.stats.paired import ALPHA, FEWEST_SEEDS
from crossattn.report.stats.ranges import lower_is_better


def evaluation_sentences(results: Results) -> Iterator[str]:
    """On splits, the primary metric with its level of chance, and pointing."""
    splits = by_split(results)
    if splits:
        yield f"The evaluation splits are {listed(splits)}."
    text = f"The primary metric is {results['primary']}"
    comparisons = results["comparisons"]
    items = comparisons[0]["items"] if comparisons else None
    whole = lower_is_better(results["primary"])  # one number of all texts, no mean of items
    if items and not whole:
        text += f", a mean over {count(items, 'item')} per seed"
    chance = results.get("chance", {}).get(results["primary"])
    if chance is not None:
        text += f"; {_who_knows_nothing(results['primary'])} reaches {chance:.3f}"
    yield text + "."
    if chance == 0:
        yield (
            "(Its level is 0 because the right answers never follow such a text in training; a "
            "model that has learnt the text less well may exceed it without seeing the image.)"
        )
    place = place_of(results["runs"])
    if any(f"pointing/{place}" in run["metrics"] for run in results["runs"]):
        yield (
            f"Pointing is, of all {prose.PLACES[place]} with a known region, the share whose "
            "predicting position attends most to a patch of that region, in the layer chosen on "
            "validation data."
        )


def statistics_sentences(results: Results) -> Iterator[str]:
    """On how differences are tested; none where nothing is compared."""
    comparisons = results["comparisons"]
    if not comparisons:
        return
    if comparisons[0]["seeds"] < FEWEST_SEEDS:
        seeds = ("one seed", "two seeds")[comparisons[0]["seeds"] - 1]
        yield f"With {seeds} no differences were tested and no intervals computed."
        return
    yield (
        f"Differences are paired by seed and item. Each p-value is the larger of a hierarchical "
        f"bootstrap over seeds and items ({BOOTSTRAP.resamples:,} resamples) and a paired t test "
        f"over seeds, each interval covers those of both, and Holm's procedure corrects for "
        f"{count(len(comparisons), 'comparison')} at a family-wise error rate of {ALPHA:g}. "
        "Other intervals are Student's over seeds at 95 %. Intervals are cut to the range of their "
        "metric, shares to [0, 1] and their differences to [-1, 1], which changes neither their "
        "coverage nor any decision."
    )


def _who_knows_nothing(primary: str) -> str:
    """Who reaches the level of chance of a metric."""
    if lower_is_better(primary):
        return prose.KNOWS_WORDS
    metric = find_metric(primary)
    by_score = metric is not None and metric.measure.reads in (RetrievalScores, SwapPairs)
    return "a score that is random" if by_score else prose.KNOWS_TEXT
