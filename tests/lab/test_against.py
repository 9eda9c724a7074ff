"""Two folders against each other: what is paired, what is said, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from crossattn import lab
from crossattn.lab.errors import LabError
from crossattn.report.stats.estimate import estimate_unpaired
from crossattn.report.stats.paired import compare_paired
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Run, replace
from experiments import compare

METRIC = "pairs/accuracy"
LEVELS = {"blind": 0.1, "mean-pool": 0.4, "resampler": 0.6, "cross-attention": 0.9}


def write_run(folder, variant, seed, level, *, noise=0.1, items=200):
    """A finished run without its checkpoint."""
    folder.mkdir(parents=True)
    run = replace(Run(), {"data.noise": noise})
    write_record(folder, RunRecord("made-up", variant, seed, run, library_versions()))
    rng = np.random.default_rng([seed, len(variant), int(1000 * level + 500)])
    easy = np.random.default_rng(0).random(items)  # items are as hard for every variant
    answers = (easy < np.clip(level + 0.01 * rng.normal(), 0, 1)) ^ (rng.random(items) < 0.05)
    np.savez(folder / "items.npz", **{METRIC: answers})
    metrics = {METRIC: float(answers.mean()), "iid/perplexity": 10 - 5 * level + rng.random()}
    counts = {METRIC: items} | ({} if variant == "blind" else {"pointing/answer/layer0": 7})
    record = {"variant": variant, "seed": seed, "metrics": metrics, "counts": {"items": counts}}
    (folder / "metrics.json").write_text(json.dumps(record))


def write_suite(path, *, shift=0.0, seeds=range(5), variants=tuple(LEVELS), quick=False, **more):
    for variant in variants:
        for seed in seeds:
            folder = path / "runs" / variant / f"seed{seed}"
            write_run(folder, variant, seed, LEVELS[variant] + shift, **more)
    (path / "results.json").write_text(json.dumps({"primary": METRIC, "asked": {"quick": quick}}))
    return path


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_suite(folder / "one")
    write_suite(folder / "two", shift=-0.12)
    write_suite(folder / "few", seeds=[0, 1, 2], variants=["blind", "resampler"])
    write_suite(folder / "other-data", noise=0.3)
    write_suite(folder / "quick", quick=True)
    write_suite(folder / "short", seeds=[0, 1], variants=["blind"])
    write_run(folder / "alone", "model", 0, 0.5)
    return folder


def rows(found):
    return {row[0]: row for row in found.table().rows}


def scores(folder, variant):
    places = [folder / "runs" / variant / f"seed{seed}" for seed in range(5)]
    return np.stack([np.load(p / "items.npz")[METRIC] for p in places]).astype(float)


def test_suites_are_compared_variant_by_variant(there):
    found = lab.compare_runs(there / "one", there / "two")
    names = [first.name for first, _ in found.pairs]
    stacks = [np.stack([scores(there / side, n) for n in names]) for side in ("one", "two")]
    wanted = compare_paired(*stacks, span=1.0)
    assert found.metric == METRIC
    for name in ("difference", "low", "high", "p", "p_holm"):
        np.testing.assert_array_equal(getattr(found.found, name), getattr(wanted, name))
    assert found.better == ["first"] * 4
    assert found.unpaired == [None] * 4
    said = "\n".join(found.sentences())
    assert "Paired by seed and item; Holm's procedure runs over 4 comparisons." in said
    assert f"a true difference of {found.resolution.difference:.3f} is found in 80 %" in said
    assert "Kendall's tau 1.00 [1.00, 1.00]" in said
    assert rows(found)["blind"][-1] == "5 paired"


def test_the_other_way_round_signs_change(there):
    one, two = (
        lab.compare_runs(*(there / name for name in order))
        for order in (("one", "two"), ("two", "one"))
    )
    np.testing.assert_allclose(one.found.difference, -two.found.difference, atol=1e-15)
    assert two.better == ["second"] * 4


def test_variants_of_one_suite(there):
    runs = there / "one" / "runs"
    found = lab.compare_runs(runs / "resampler", runs / "mean-pool")
    assert rows(found)["resampler, mean-pool"][-2:] == ["first", "5 paired"]
    assert found.agreement is None


def test_variants_of_which_one_does_not_attend_are_paired(there):
    found = lab.compare_runs(there / "one/runs/blind", there / "one/runs/resampler")
    assert found.unpaired == [None]


def test_settings_that_differ_in_all_pairs_are_told(there, tmp_path):
    found = lab.compare_runs(there / "one", there / "other-data")
    assert found.sentences()[0] == "Settings that differ (first, second): data.noise 0.1, 0.3."
    write_suite(tmp_path / "mixed", variants=["blind"], noise=0.3)
    write_suite(tmp_path / "mixed", variants=["resampler"])
    assert "Settings" not in lab.compare_runs(there / "one", tmp_path / "mixed").sentences()[0]


def test_other_seeds_are_not_paired(there):
    found = lab.compare_runs(there / "one", there / "few")
    assert found.unpaired == ["seeds differ"] * 2
    assert found.resolution is None
    assert found.sentences()[0].startswith("Not paired: seeds differ; Holm's")
    assert rows(found)["blind"][-1] == "5, 3"


def test_what_is_not_paired_is_named(there, tmp_path):
    write_suite(tmp_path / "mixed", variants=["blind"])
    write_suite(tmp_path / "mixed", variants=["resampler"], seeds=range(7))
    found = lab.compare_runs(there / "one", tmp_path / "mixed")
    assert found.unpaired == [None, "seeds differ"]
    assert found.sentences()[0].startswith("Not paired (resampler): seeds differ;")
    assert found.found.difference[0] == 0
    assert rows(found)["blind"][-1] == "5 paired"


def test_other_data_are_not_paired(there):
    found = lab.compare_runs(there / "one", there / "other-data")
    assert set(found.unpaired) == {"the data that they are judged by differ"}
    wanted = estimate_unpaired(
        scores(there / "one", "blind"), scores(there / "other-data", "blind")
    )
    at = [first.name for first, _ in found.pairs].index("blind")
    assert found.found.p[at] == wanted.p()


def test_a_metric_without_items_where_less_is_better(there):
    found = lab.compare_runs(there / "one", there / "two", metric="iid/perplexity")
    for better, difference in zip(found.better, found.found.difference, strict=True):
        assert better in (None, "first" if difference < 0 else "second")
    assert found.pairs[0][0].scores("iid/perplexity").shape == (5, 1)


def test_equivalence_is_shown_within_a_wide_margin_only(there):
    wide = lab.compare_runs(there / "one", there / "two", equivalence=0.2)
    narrow = lab.compare_runs(there / "one", there / "two", equivalence=0.05)
    assert wide.equivalent == [True] * 4
    assert narrow.equivalent == [False] * 4
    assert rows(wide)["blind"][-1].startswith("yes (p ")
    assert rows(narrow)["blind"][-1].startswith("not shown (p ")


def test_planned_looks_are_tested_at_their_share(there):
    found = lab.compare_runs(there / "one", there / "two", looks=(5, 10))
    assert found.found.alpha == 0.025
    assert (found.found.confidence >= 0.975).all()
    with pytest.raises(LabError, match="5 seeds are there, and looks were planned at 4, 8"):
        lab.compare_runs(there / "one", there / "two", looks=(4, 8))


def test_single_runs_and_two_seeds_have_no_test(there):
    found = lab.compare_runs(there / "alone", there / "one/runs/resampler/seed0/run.json")
    assert rows(found)["model, resampler"][3] == f"{found.found.difference[0]:+.3f}"
    assert found.better == [None]
    assert "Under 3 seeds there is neither test nor interval: p is 1." in found.sentences()


def test_a_quick_run_concludes_nothing(there):
    found = lab.compare_runs(there / "one/runs/blind", there / "quick/runs/blind")
    assert repr(found.table()).startswith("QUICK RUN")
    assert "ahead (no conclusion)" in found.table().header


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "one"], "there is no folder nowhere"),
        (["one", "alone/items.npz"], "there is no folder alone/items.npz"),
        (["one", "empty"], "empty: it holds no run: give a suite's folder"),
        (["one", "begun"], "begun: no run of it is measured yet"),
        (["one", "alone"], "no variant in common: name one of each"),
        (["one", "two", "--metric", "pairs/acuracy"], "has no metric 'pairs/acuracy'"),
        (["one", "two", "--equivalence", "-1"], "a margin of equivalence is a number above 0"),
        (["one", "two", "--equivalence", "nan"], "a margin of equivalence is a number above 0"),
        (["one", "two", "--looks", "10", "5"], "looks are ascending numbers of 3 or more seeds"),
        (["one", "few", "--looks", "5", "10"], "looks are numbers of seeds of all variants"),
        (["damaged", "one/runs/blind"], "metrics.json is damaged: it is no JSON"),
        (["swapped", "one/runs/blind"], "its items do not average to its pairs/accuracy"),
        (["torn", "one/runs/blind"], "items.npz is damaged: it holds no arrays"),
    ],
)
def test_a_command_says_in_one_line_what_is_wrong(there, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(there)
    Path("empty").mkdir(exist_ok=True)
    Path("begun").mkdir(exist_ok=True)
    Path("begun/run.json").write_text("{}")
    for name, file, content in (
        ("damaged", "metrics.json", b"{"),
        ("torn", "items.npz", b"PK\3\4"),
        ("swapped", "metrics.json", None),
    ):
        if not Path(name).exists():
            write_run(Path(name), "model", 0, 0.5)
            record = json.loads(Path(name, "metrics.json").read_text())
            record["metrics"][METRIC] += 0.1
            Path(name, file).write_bytes(content or json.dumps(record).encode())
    with pytest.raises(SystemExit) as end:
        compare.main(arguments)
    assert end.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("compare: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err


def test_the_command_prints_what_the_call_finds(there, monkeypatch, capsys):
    monkeypatch.chdir(there)
    compare.main(["one", "two", "--equivalence", "0.2"])
    printed = capsys.readouterr().out
    assert printed == f"{lab.compare_runs('one', 'two', equivalence=0.2)}\n"
    assert printed.startswith("first:  one\nsecond: two\nmetric: pairs/accuracy\n")
