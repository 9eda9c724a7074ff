"""Comparisons pair what belongs together, and claims get the verdict that the numbers allow."""

import json

import numpy as np
import pytest

from crossattn.report import prose
from crossattn.report.render.csv_files import table_csv
from crossattn.report.results.runs import metric_values, normalised_iqm
from crossattn.report.stats.aggregate import iqm
from crossattn.report.stats.claims import judge_claims
from crossattn.report.stats.comparisons import compare_variants, pairs_to_compare, winner_of
from crossattn.report.stats.holm import holm_adjusted
from crossattn.report.stats.paired import compare_paired
from crossattn.report.tables.main import claim_table, comparison_table, main_table
from tests.support.made_up import BASELINE, CLAIMS, LEVELS, PRIMARY, make_results

VARIANTS = list(LEVELS)
# Columns that are empty where too few seeds allow no test.
UNTESTED = ("level", "p", "Holm p", "sign-flip p")


def by_pair(comparisons):
    return {(found["variant"], found["baseline"]): found for found in comparisons}


def test_every_comparison_counts_once():
    pairs = pairs_to_compare(VARIANTS, baseline=BASELINE, claims=CLAIMS)
    assert pairs == [
        ("blind", BASELINE),
        ("mean-pool", BASELINE),
        ("oracle-attention", BASELINE),
        ("mean-pool", "blind"),
        ("blind", "oracle-attention"),
    ]


@pytest.mark.parametrize(
    ("baseline", "claims", "message"),
    [
        ("cross", (), "no variant 'cross'; there are: blind, mean-pool"),
        ("blind", [("mean-pool", "mean-pol")], "no variant 'mean-pol'"),
        ("blind", [("blind", "blind")], "with itself"),
    ],
)
def test_unknown_variants_are_named(baseline, claims, message):
    with pytest.raises(ValueError, match=message):
        pairs_to_compare(VARIANTS, baseline=baseline, claims=claims)


def test_the_caption_defines_the_columns(suite):
    header, _ = comparison_table(suite[0])
    for column in ("level", "sign-flip p", "P(improvement)"):
        assert column in header
        assert f"{column} is " in prose.COMPARISONS.replace("Level", "level")


def test_comparisons_are_those_of_the_statistics(suite):
    results, items = suite
    pairs = [(found["variant"], found["baseline"]) for found in results["comparisons"]]
    scores = {name: own.astype(float) for name, own in items.items()}
    wanted = compare_paired(
        np.stack([scores[v] for v, _ in pairs]), np.stack([scores[b] for _, b in pairs])
    )
    for name in ("difference", "low", "high", "confidence", "p", "p_holm", "p_sign_flip"):
        assert [found[name] for found in results["comparisons"]] == getattr(wanted, name).tolist()
    assert [winner_of(found) for found in results["comparisons"]] == [
        {1: variant, -1: baseline, 0: None}[side]
        for (variant, baseline), side in zip(pairs, wanted.winner, strict=True)
    ]


def test_holm_runs_over_all_comparisons_of_the_suite(suite):
    results, _ = suite
    p = np.array([found["p"] for found in results["comparisons"]])
    assert [found["p_holm"] for found in results["comparisons"]] == holm_adjusted(p).tolist()
    assert len(p) == 5


def test_comparisons_go_through_json(suite):
    results, _ = suite
    assert json.loads(json.dumps(results["comparisons"])) == results["comparisons"]


def test_difference_is_that_of_the_metric(suite):
    results, _ = suite
    for found in results["comparisons"]:
        own, other = (
            metric_values(results["runs"], found[name], PRIMARY) for name in ("variant", "baseline")
        )
        assert found["difference"] == pytest.approx((own - other).mean(), abs=1e-12)
        np.testing.assert_allclose(found["seed_differences"], own - other, atol=1e-12)
        assert (found["seeds"], found["items"]) == (5, 254)


def test_order_of_runs_does_not_matter(suite):
    results, items = suite
    runs = [results["runs"][i] for i in np.random.default_rng(0).permutation(20)]
    again = compare_variants(runs, items, primary=PRIMARY, baseline=BASELINE, claims=CLAIMS)
    found, wanted = by_pair(again), by_pair(results["comparisons"])
    assert found["mean-pool", BASELINE] == wanted["mean-pool", BASELINE]


def test_improvement_is_averaged_over_question_types(suite):
    results, _ = suite
    runs = [
        {"variant": v, "seed": 0, "metrics": {"x": 0.5, "x/a": a, "x/b": b}}
        for v, a, b in (("left", 0.9, 0.4), ("right", 0.1, 0.4))
    ]
    found = compare_variants(runs, {}, primary="x", baseline="right")
    assert found[0]["probability_of_improvement"] == 0.75
    assert by_pair(results["comparisons"])["mean-pool", "blind"]["probability_of_improvement"] > 0.9


def test_metric_without_items_is_compared_over_seeds():
    runs = [
        {"variant": v, "seed": s, "metrics": {"steps": centre + s}}
        for v, centre in (("slow", 900.0), ("fast", 100.0))
        for s in range(5)
    ]
    (found,) = compare_variants(runs, {}, primary="steps", baseline="slow")
    assert (found["difference"], found["items"], winner_of(found)) == (-800.0, None, "slow")


def test_one_seed_has_no_interval_and_no_winner():
    results, _ = make_results(seeds=1)
    for found in results["comparisons"]:
        assert (found["low"], found["high"], found["p_holm"]) == (None, None, 1.0)
        assert winner_of(found) is None
    # A table prints no p-value where nothing was tested.
    header, rows = comparison_table(results)
    for row in rows:
        assert [row[header.index(name)] for name in UNTESTED] == ["-"] * len(UNTESTED)
    assert {row[-1] for row in (*main_table(results)[1], *claim_table(CLAIMS, results)[1])} == {"-"}
    assert "1.000" not in table_csv((header, rows))
    assert {v.verdict for v in judge_claims(CLAIMS, results["comparisons"])} == {"inconclusive"}


def test_one_variant_has_nothing_to_compare():
    results, _ = make_results(variants=(BASELINE,))
    assert results["comparisons"] == []


def test_items_in_the_wrong_order_are_refused(suite):
    results, items = suite
    swapped = {**items, "mean-pool": items["mean-pool"][::-1]}
    with pytest.raises(ValueError, match="items of mean-pool"):
        compare_variants(results["runs"], swapped, primary=PRIMARY, baseline=BASELINE)


def test_missing_pieces_are_named(suite):
    results, items = suite
    runs = results["runs"]
    few = {name: own for name, own in items.items() if name != "blind"}
    with pytest.raises(ValueError, match="no items of blind"):
        compare_variants(runs, few, primary=PRIMARY, baseline=BASELINE)
    with pytest.raises(ValueError, match="lacks the primary metric 'pointing/answer'"):
        compare_variants(runs, {}, primary="pointing/answer", baseline=BASELINE)
    with pytest.raises(ValueError, match="seeds are not paired"):
        compare_variants(runs[1:], items, primary=PRIMARY, baseline=BASELINE)
    with pytest.raises(ValueError, match="were not compared"):
        judge_claims([("blind", "mean-pool")], results["comparisons"][:1])
    ragged = {**items, "blind": np.repeat(items["blind"], 2, axis=1)}
    with pytest.raises(ValueError, match="did not answer the same items"):
        compare_variants(runs, ragged, primary=PRIMARY, baseline=BASELINE)
    some = [{**runs[0], "metrics": {}}, *runs[1:]]
    with pytest.raises(ValueError, match="4 of 5 seeds"):
        metric_values(some, "blind", PRIMARY)


def test_verdicts(suite):
    results, _ = suite
    verdicts = judge_claims([*CLAIMS, ("oracle-attention", BASELINE)], results["comparisons"])
    assert [verdict.verdict for verdict in verdicts] == [
        "supported",
        "supported",
        "not supported",
        "inconclusive",
    ]
    claimed, found = verdicts[0], by_pair(results["comparisons"])["mean-pool", BASELINE]
    assert (claimed.difference, claimed.low, claimed.high) == (
        -found["difference"],
        -found["high"],
        -found["low"],
    )


def test_normalised_iqm_is_zero_at_chance_and_one_at_the_top():
    chance = {"x/a": 0.25, "x/b": 0.5}
    runs = [
        {"variant": v, "seed": s, "metrics": {"x": 0.0, "x/a": a, "x/b": b}}
        for v, a, b in (("blind", 0.25, 0.5), ("perfect", 1.0, 1.0), ("half", 0.625, 0.5))
        for s in range(3)
    ]
    assert normalised_iqm(runs, "blind", "x", chance=chance) == (0, 0, 0)
    assert normalised_iqm(runs, "perfect", "x", chance=chance) == (1, 1, 1)
    scores = np.array([[0.5, 0.0]] * 3)
    assert normalised_iqm(runs, "half", "x", chance=chance)[0] == iqm(scores)
    assert normalised_iqm(runs, "half", "x", chance={}) is None
    assert normalised_iqm(runs, "half", "x/a", chance=chance) is None
