"""Claims may name a metric of their own: Holm counts them in, and the better end is its own."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from crossattn.report.document import write_report
from crossattn.report.stats.claims import judge_claims
from crossattn.report.stats.comparisons import compare_variants
from crossattn.report.stats.estimate import estimate_paired
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.power import resolution
from crossattn.report.summary import opening_paragraph
from crossattn.report.tables.main import claim_table, comparison_table, main_table
from crossattn.train.run import Run
from crossattn.train.suite import Suite
from tests.support.made_up import BASELINE, PRIMARY, make_results

POINTING, SECONDS = "pointing/answer", "cost/step_seconds"
CLAIMS = [
    (BASELINE, "mean-pool"),
    ("oracle-attention", BASELINE, POINTING),
    (BASELINE, "mean-pool", POINTING),
    ("mean-pool", BASELINE, SECONDS),
    (BASELINE, "blind", SECONDS),
    ("blind", "mean-pool", PRIMARY),
]
VERDICTS = ["supported", "supported", "not measured", "supported", "not supported", "not supported"]
PACE = {"blind": 0.01, "mean-pool": 0.02, BASELINE: 0.05, "oracle-attention": 0.05}


@pytest.fixture(scope="module")
def claimed():
    """(results, items) with paces, and a pointing of oracle-attention that is 0.05 higher."""
    results, items = make_results()
    rng = np.random.default_rng(4)
    runs = []
    for run in results["runs"]:
        metrics, variant = dict(run["metrics"]), run["variant"]
        if POINTING in metrics:
            raised = 0.05 if variant == "oracle-attention" else 0.0
            metrics[POINTING] = 0.9 + raised + 0.005 * rng.normal()
        seconds = PACE[variant] + 0.001 * rng.random()
        runs.append({**run, "metrics": metrics, "cost": {SECONDS: seconds}})
    found = compare_variants(runs, items, primary=PRIMARY, baseline=BASELINE, claims=CLAIMS)
    return {**results, "runs": runs, "comparisons": found}, items


def values(results, variant, metric):
    own = (run for run in results["runs"] if run["variant"] == variant)
    return np.array([{**run["metrics"], **run["cost"]}[metric] for run in own])


def test_each_metric_of_a_claim_is_explained_before_the_verdicts(claimed, tmp_path):
    results = {**claimed[0], "claims": CLAIMS}
    text = write_report(results, tmp_path, title="x", claims=CLAIMS, command="y").read_text()
    told = text.split("## Claims")[1].split("| claim |")[0]
    assert f"- `{POINTING}`. Pointing: " in told
    assert "In the layer chosen on validation data, where an answer is predicted." in told
    assert f"- `{PRIMARY}`" not in told


def test_each_claim_has_its_verdict(claimed):
    verdicts = judge_claims(CLAIMS, claimed[0]["comparisons"])
    assert [verdict.verdict for verdict in verdicts] == VERDICTS
    assert verdicts[3].difference == pytest.approx(-0.03, abs=0.003)
    assert [one.verdict for one in judge_claims(CLAIMS, [], unfinished=True)] == ["open"] * 6
    with pytest.raises(ValueError, match="were not compared"):
        judge_claims(CLAIMS[:1], [])


def test_holm_runs_over_all_of_them(claimed):
    results, items = claimed
    found = results["comparisons"]
    pairs = [(one["variant"], one["baseline"], one["metric"]) for one in found]
    assert pairs[3:] == [
        ("blind", "mean-pool", PRIMARY),
        ("oracle-attention", BASELINE, POINTING),
        ("mean-pool", BASELINE, SECONDS),
        (BASELINE, "blind", SECONDS),
    ]
    p = np.array([one["p"] for one in found])
    assert [one["p_holm"] for one in found] == holm_adjusted(p).tolist()
    alone = compare_variants(
        results["runs"], items, primary=PRIMARY, baseline=BASELINE, claims=CLAIMS[:1]
    )
    assert [one["p"] for one in alone] == [one["p"] for one in found[:3]]


def test_another_metric_is_paired_over_seeds(claimed):
    for found in claimed[0]["comparisons"][4:]:
        sides = [
            values(claimed[0], found[name], found["metric"]) for name in ("variant", "baseline")
        ]
        t_test = stats.ttest_rel(*sides)
        assert found["p"] == pytest.approx(max(t_test.pvalue, 2 / 4001), rel=1e-9)
        interval = t_test.confidence_interval(found["confidence"])
        assert found["low"] <= interval.low + 1e-12
        assert found["high"] >= interval.high - 1e-12
        assert (found["items"], found["seeds"]) == (None, 5)


def test_tables_name_the_metric_and_its_better_end(claimed):
    header, rows = claim_table(CLAIMS, claimed[0])
    assert [row[0] for row in rows] == [
        "cross-attention > mean-pool",
        "oracle-attention > cross-attention (pointing/answer)",
        "cross-attention > mean-pool (pointing/answer)",
        "mean-pool < cross-attention (cost/step_seconds)",
        "cross-attention < blind (cost/step_seconds)",
        "blind > mean-pool",
    ]
    assert [row[header.index("verdict")] for row in rows] == VERDICTS
    named = [row[0] for row in comparison_table(claimed[0])[1]]
    assert named[4] == "oracle-attention minus cross-attention (pointing/answer)"
    assert [row[-1] for row in comparison_table(claimed[0])[1]][5] == "mean-pool"
    # What a table says of a variant is about the primary metric.
    alone, _ = make_results()
    changed = [row[:-2] for row in main_table(claimed[0])[1]]
    assert changed == [row[:-2] for row in main_table(alone)[1]]
    spread = resolution(claimed[0]["comparisons"]).spread
    assert spread == resolution(claimed[0]["comparisons"][:4]).spread


def test_the_report_names_the_metrics_that_claims_are_about(claimed, tmp_path, undrawn):
    path = write_report(claimed[0], tmp_path, title="x", claims=CLAIMS, command="make")
    said = (
        f"The suite declared 6 claims on `{PRIMARY}`, `{POINTING}` and `{SECONDS}` before it ran: "
        "3 supported, 2 not supported, 1 not measured."
    )
    assert said in path.read_text()
    counted = "the 4 comparisons of the one primary metric and 3 of other metrics that claims name"
    assert counted in path.read_text()
    # The opening is about the primary metric.
    assert path.read_text().partition("\n## ")[0].count("\n- ") == 4


def test_a_declared_margin_is_tested_by_two_one_sided_tests(claimed):
    results, items = claimed
    runs, shown = results["runs"], {}
    for margin in (0.03, 0.2):
        given = {"primary": PRIMARY, "baseline": BASELINE, "claims": CLAIMS, "equivalence": margin}
        found = compare_variants(runs, items, **given)
        assert [one.get("margin") for one in found] == [margin] * 4 + [None] * 3
        scores = [(items[one["variant"]] * 1.0, items[one["baseline"]] * 1.0) for one in found[:4]]
        p = [estimate_paired(*pair).p_equivalent(margin) for pair in scores]
        assert [one["p_equivalent"] for one in found[:4]] == holm_adjusted(np.array(p)).tolist()
        header, rows = comparison_table({**results, "comparisons": found})
        assert header[-1] == f"within {margin:g}"
        shown[margin] = [row[-1].partition(" (")[0] for row in rows]
        opening = opening_paragraph({**results, "comparisons": found}).splitlines()
        equal = [line for line in opening if line.endswith(f"; they are equal within {margin:g}.")]
        assert len(equal) == shown[margin].count("shown")
        assert all("between oracle-attention and cross-attention" in line for line in equal)
    assert shown[0.2] == ["not shown", "not shown", "shown", "not shown", "-", "-", "-"]
    assert shown[0.03][:4] == ["not shown"] * 4
    with pytest.raises(ValueError, match="equivalence is a margin of 0 or more, got -1"):
        dataclasses.replace(suite(), equivalence=-1.0)


def suite(*claims):
    return Suite("s", "t", Run(), {"a": {}, "b": {"steps": 9}}, "a", PRIMARY, claims=claims)


@pytest.mark.parametrize("claim", [("a", "b", "pointing"), ("a", "b", "x y/z"), ("a", "b", "")])
def test_what_is_no_metric_is_refused(claim):
    with pytest.raises(ValueError, match=r"^suite s: a claim takes a metric of a split, like"):
        suite(claim)


def test_a_suite_of_some_variants_keeps_their_claims():
    both = suite(("a", "b", POINTING))
    assert both.only(["b"]).claims == both.claims
    assert both.only(["a"]).claims == ()
    assert dataclasses.replace(both).claims == both.claims
