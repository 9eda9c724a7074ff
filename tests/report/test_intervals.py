"""Intervals stay within what is possible, and few seeds have none."""

import json
import math
import re

import numpy as np
import pytest

from crossattn.align.inputs import Answers
from crossattn.align.measures import MEASURES, Measure
from crossattn.report.document import write_report
from crossattn.report.figures.attention import pointing_scatter
from crossattn.report.figures.variants import accuracy_by_split
from crossattn.report.results.runs import mean_with_interval, metric_values, normalised_iqm
from crossattn.report.stats.comparisons import compare_variants, winner_of
from crossattn.report.stats.paired import compare_paired, t_interval
from crossattn.report.stats.ranges import range_of
from crossattn.report.tables.cells import with_interval
from crossattn.report.tables.measures import measure_blocks
from crossattn.report.tables.suites import iqm_of_suites
from tests.support.made_up import BASELINE, make_results


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0, 0.3],
        [0.985, 1.0, 1.0],
        [0.0, 1.0, 0.5],
        [1.0, 1.0, 1.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.999, 1.0, 0.998, 1.0, 1.0],
    ],
)
def test_shares_stay_between_zero_and_one(values):
    values = np.array(values)
    mean, low, high = mean_with_interval(values)
    assert 0 <= low <= mean <= high <= 1
    whole = [float(limit) for limit in t_interval(values)]
    # Cut, and nothing else: what is within stays Student's.
    assert (low, high) == (max(0.0, whole[0]), min(1.0, whole[1]))


@pytest.mark.parametrize(
    ("values", "metric", "least"),
    [
        ([1.1, 9.0, 40.0], "test/perplexity", 1),
        ([1.1, 9.0, 40.0], "caption/perplexity/colour", 1),
        ([0.1, 0.9, 0.2], "iid/loss", 0),
        ([10.0, 900.0, 20.0], "steps", 0),
        ([-3.0, 5.0, 1.0], "gap", -math.inf),
    ],
)
def test_other_metrics_have_ranges_of_their_own(values, metric, least, monkeypatch):
    loss = Measure("loss", "task", Answers, len, "Loss.", limits=(0.0, math.inf))
    monkeypatch.setitem(MEASURES, "loss", loss)
    values = np.array(values)
    assert range_of(values, metric)[0] == least
    mean, low, high = mean_with_interval(values, metric)
    assert low == max(least, t_interval(values)[0])
    assert mean < high == t_interval(values)[1]
    assert high > 1


def test_under_three_seeds_there_is_no_interval_and_no_winner():
    for values in ([0.8], [0.8, 0.8], [0.2, 0.9]):
        mean, low, high = mean_with_interval(np.array(values))
        assert mean == np.mean(values)
        assert math.isnan(low)
        assert math.isnan(high)
        assert with_interval(np.array(values)) == f"{mean:.3f}"
    found = compare_paired(np.ones((1, 2, 100)), np.zeros((1, 2, 100)))
    assert np.isnan([found.low, found.high]).all()
    assert (found.p[0], found.winner[0]) == (1, 0)
    assert compare_paired(np.ones((1, 3, 100)), np.zeros((1, 3, 100))).winner[0] == 1


def test_differences_stay_within_the_span():
    variant = np.array([[[1.0], [1.0], [0.9]]])
    baseline = np.array([[[0.0], [0.05], [0.8]]])
    free = compare_paired(variant, baseline)
    assert free.high[0] > 1
    cut = compare_paired(variant, baseline, span=1.0)
    assert (cut.low[0], cut.high[0]) == (max(-1, free.low[0]), 1)
    assert cut.winner.tolist() == free.winner.tolist()
    runs = [
        {"variant": name, "seed": seed, "metrics": {"x": float(value)}}
        for name, scores in (("a", variant), ("b", baseline))
        for seed, value in enumerate(scores.ravel())
    ]
    (found,) = compare_variants(runs, {}, primary="x", baseline="b")
    assert (found["low"], found["high"]) == (cut.low[0], 1)


def test_a_lower_perplexity_is_the_better_one(tmp_path, undrawn):
    runs = [
        {"variant": v, "seed": s, "metrics": {"test/perplexity": centre + 0.01 * s}}
        for v, centre in (("old", 9.0), ("new", 4.0))
        for s in range(5)
    ]
    comparisons = compare_variants(
        runs, {}, primary="test/perplexity", baseline="old", claims=[("new", "old")]
    )
    (found,) = comparisons
    assert (winner_of(found), found["difference"]) == ("new", pytest.approx(-5))
    assert found["probability_of_improvement"] == 1
    # Differences of what has no upper end have no ends either.
    assert found["low"] < -1
    results = {
        "suite": "words",
        "primary": "test/perplexity",
        "runs": runs,
        "comparisons": comparisons,
        "chance": {},
        "learning_rate_sweep": {},
        "environment": {},
    }
    path = write_report(results, tmp_path, title="x", claims=[("new", "old")], command="make")
    text = path.read_text()
    assert "primary metric `test/perplexity` (lower is better)" in text
    assert "**new** is better than **old** by 5.000" in text
    assert "| new < old | supported |" in text


def test_perplexity_is_drawn_on_its_own_scale():
    runs = [
        {"variant": v, "seed": s, "metrics": {"test/perplexity": 9.0 + s, "pointing/answer": 0.5}}
        for v in ("old", "new")
        for s in range(3)
    ]
    (axes,) = accuracy_by_split(runs, ["test/perplexity"], chance={}).axes
    assert axes.get_xlim()[1] > 11
    (axes,) = pointing_scatter(runs, primary="test/perplexity", chance={}).axes
    assert axes.get_ylim()[1] > 11
    assert axes.yaxis.get_tick_params()["labelleft"]


def limits(text):
    return [
        float(x) for pair in re.findall(r"\[([+-]?[\d.]+), ([+-]?[\d.]+)\]", text) for x in pair
    ]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_no_number_of_a_report_leaves_its_range(seeds, tmp_path, undrawn):
    """Seeds far apart, at the ends of the scale: every interval of every table."""
    results, _ = make_results(seeds)
    rng = np.random.default_rng(seeds)
    for run in results["runs"]:
        run["metrics"] = {
            name: float(rng.choice([0.0, 0.005, 0.9, 0.995, 1.0])) for name in run["metrics"]
        }
    results["comparisons"] = compare_variants(
        results["runs"], {}, primary=results["primary"], baseline=BASELINE
    )
    text = write_report(results, tmp_path, title="x", command="make").read_text()
    shown = limits(text.split("Interquartile")[0])
    assert all(-1 <= x <= 1 for x in shown)
    assert bool(shown) == (seeds > 2)
    for mean, half in re.findall(r"([\d.]+) ± ([\d.]+)", text):
        assert round(float(mean) - float(half), 3) >= 0
        assert round(float(mean) + float(half), 3) <= 1
    assert ("±" in text.replace("seeds ±", "").replace("; ± 0.000", "")) == (seeds > 2)
    assert "nan" not in text
    if seeds == 2:
        assert "Two seeds allow no claim: no winner is named." in text
        assert "> **FEW SEEDS: with 2 seeds there is no interval" in text
        assert "is better than" not in text
        assert json.dumps(results["comparisons"], allow_nan=False)


def test_a_cut_interval_has_no_half():
    runs = [
        {"variant": "a", "seed": s, "metrics": {"x/accuracy": a, "x/open": b}}
        for s, (a, b) in enumerate([(0.98, 0.5), (1.0, 0.51), (1.0, 0.52)])
    ]
    (block,) = measure_blocks({"runs": runs, "chance": {}}, "task")
    assert block.table[1] == [["a", "0.993 [0.965, 1.000]", "0.510 ± 0.025"]]
    chance = {"x/a": 0.0, "x/b": 0.0}
    two = [
        {"variant": "a", "seed": s, "metrics": {"x": 0.5, "x/a": 0.5, "x/b": 0.5}} for s in (0, 1)
    ]
    found = normalised_iqm(two, "a", "x", chance=chance)
    assert found[0] == 0.5
    assert math.isnan(found[1])
    # In reports of several suites as well.
    scores = {"a": np.array([[0.5, 0.6], [0.6, 0.7]])}
    assert iqm_of_suites(scores, "a")[1] == [["a", "0.600", "-"]]


def test_error_bars_are_those_of_the_tables(headline):
    runs = [{**run, "metrics": dict(run["metrics"])} for run in headline["runs"]]
    for run in runs:
        run["metrics"]["caption/exact"] = 1.0 - 0.2 * (run["seed"] == 0)
    (axes,) = accuracy_by_split(runs, ["caption/exact"], chance={}).axes
    _, low, high = mean_with_interval(metric_values(runs, BASELINE, "caption/exact"))
    assert high == 1
    assert [low, high] in [list(line.get_xdata()) for line in axes.lines]
    assert max(max(line.get_xdata()) for line in axes.lines) == 1
