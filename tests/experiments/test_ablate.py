"""Suites from the first step to the report: planned, swept, measured, reported."""

import dataclasses
import sys

import jax
import pytest

from crossattn.train.record import processor, read_record
from crossattn.train.run import replace
from tests.support import driver
from tests.support.suite_command import (
    covered,
    results,
    typed,
)

pytestmark = pytest.mark.usefixtures("programs")

VARIANTS = ("blind", "cross-attention")


def test_results_and_report(finished):
    out, _, (said, err) = finished
    found = results(out)
    assert "2 runs are finished, 2 to go" in err
    assert covered(out) == {(variant, seed) for variant in VARIANTS for seed in range(2)}
    assert found["primary"] == "iid/accuracy"
    comparison = found["comparisons"][0]
    assert {"variant", "baseline", "metric", "difference", "low", "high", "p_holm"} <= set(
        comparison
    )
    assert not any("seconds" in name for run in found["runs"] for name in run["metrics"])
    assert found["environment"]["timings"]["blind"]["parameters"] > 0
    assert found["learning_rate_sweep"] == {}
    # What was counted and asked for, each variant's own settings, and where it ran.
    counted = found["counts"]["items"]["iid/accuracy"]
    assert counted == comparison["items"]
    assert found["counts"]["images"]["iid"] == found["counts"]["training_images"] == 100
    assert found["settings"]["blind"]["model"]["context_view"] == "none"
    assert found["asked"] == {
        "quick": False,
        "seeds": 2,
        "variants": list(VARIANTS),
        "suite": list(VARIANTS),
    }
    assert found["environment"]["processor"] == processor()
    report = (out / "report.md").read_text()
    assert "No learning-rate sweep" in report
    assert "left out on request" not in report
    assert f"iid with 100 images and {counted} questions" in report
    assert "| blind | model.context_view = none (base: tokens) |" in report
    assert processor() in report.replace("\\", "")
    assert "> **FEW SEEDS: with 2 seeds there is no interval" in report
    assert said.startswith("FEW SEEDS")
    for figure in ("differences", "gallery", "learning"):
        assert (out / "figures" / f"{figure}.png").stat().st_size > 10_000
    assert "cross-attention" in said


def test_every_run_says_what_it_is(finished):
    for variant in VARIANTS:
        record = read_record(finished[0] / "runs" / variant / "seed1")
        assert record.run == driver.SUITE.run(variant)
        assert (record.suite, record.variant, record.seed) == ("tiny", variant, 1)
        assert record.versions["jax"] == jax.__version__


def test_what_is_finished_never_runs_again(finished, monkeypatch):
    def fatal(*arguments, **named):
        raise AssertionError("a step was run")

    out, *_ = finished
    monkeypatch.setattr("crossattn.train.ablation.fit", fatal)
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/metrics.json")}
    assert "4 runs are finished, 0 to go" in typed("--seeds", 2, "--out", out)[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_sweep_is_reported_with_its_choice(tmp_path):
    out = tmp_path / "out"
    typed("--seeds", 1, "--sweep", "--variants", "cross-attention", "--out", out)
    sweep = results(out)["learning_rate_sweep"]
    assert set(sweep) == {"cross-attention"}
    found = sweep["cross-attention"]
    assert found["learning_rate"] in driver.SUITE.learning_rates
    assert set(found["validation_accuracy"]) == {"0.001", "0.01"}
    # Damaged, it is chosen again from the last checkpoints.
    (out / "sweep" / "cross-attention" / "chosen.json").write_text('{"learning_rate": 0.5}')
    (out / "runs" / "cross-attention" / "seed0" / "items.npz").write_bytes(b"")
    said = typed("--seeds", 1, "--sweep", "--variants", "cross-attention", "--out", out)[1]
    assert "chosen.json is not as it was written: choosing the learning rate again" in said
    assert results(out)["learning_rate_sweep"] == sweep
    # What was chosen is what is written down.
    run = read_record(out / "runs" / "cross-attention" / "seed0").run
    assert run.optimizer.learning_rate == found["learning_rate"]


@pytest.mark.slow
def test_captions_alone_are_judged_by_perplexity(tmp_path, monkeypatch):
    base = replace(driver.SUITE.base, {"data.tasks": ("caption",)})
    suite = dataclasses.replace(driver.SUITE, base=base, primary="pairs/perplexity")
    monkeypatch.setattr(sys.modules["configs.tiny"], "SUITE", suite)
    out = tmp_path / "out"
    typed("--seeds", 1, "--sweep", "--out", out, report=True)
    found = results(out)
    assert found["comparisons"][0]["metric"] == "pairs/perplexity"
    for run in found["runs"]:
        assert 1 < run["metrics"]["pairs/perplexity"] < 50
        assert 0 <= run["metrics"]["caption/slot_accuracy"] <= 1
        assert ("pointing/caption" in run["metrics"]) == (run["variant"] != "blind")
    for swept in found["learning_rate_sweep"].values():
        rates = swept["validation_perplexity"]
        assert rates[f"{swept['learning_rate']:g}"] == min(rates.values())
    assert "pairs/perplexity" in (out / "report.md").read_text()
    assert (out / "figures" / "gallery.png").exists()


def test_a_dry_run_writes_nothing(tmp_path, finished):
    said, _ = typed("--quick", "--dry-run", "--out", tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
    assert "6 runs of 7 steps to do" in said
    assert f"Results go to {tmp_path}/new/out. Nothing was written." in said
    before = sorted(path.stat().st_mtime_ns for path in finished[0].rglob("*"))
    said, _ = typed("--seeds", 3, "--dry-run", "--out", finished[0])
    assert sorted(path.stat().st_mtime_ns for path in finished[0].rglob("*")) == before
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line}
    parameters = results(finished[0])["environment"]["timings"]["blind"]["parameters"]
    assert rows["blind"][:3] == ["1", "2", f"{parameters:,}"]
    assert rows["cross-attention"][3] == "1.00"
    assert 0.1 < float(rows["blind"][3]) < 1
    assert "an estimate, from the finished runs here" in said
