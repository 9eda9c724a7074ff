"""Suites from the first step to the report: resumed, killed, interrupted, planned, measured."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import sys
from pathlib import Path

import jax
import pytest

from crossattn.lab import training
from crossattn.sharding import make_mesh
from crossattn.train.grouping import describe_grouping
from crossattn.train.log import read_lines
from crossattn.train.record import processor, read_record
from crossattn.train.run import replace
from experiments import evaluate

ROOT = Path(__file__).resolve().parents[2]

from tests.support import driver  # noqa: E402
from tests.support.kept_programs import kept_programs  # noqa: E402
from tests.support.suite_command import (  # noqa: E402
    Counting,
    changed,
    covered,
    emptied,
    ended_by,
    interrupted,
    killed,
    other_shape,
    removed,
    renamed,
    replaced_by_a_file,
    results,
    rewritten,
    run_removed,
    typed,
)

driver.install()

VARIANTS = ("blind", "cross-attention")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Programs are compiled once for all tests, here and in the processes that get killed."""
    jax.devices()  # all that the tests have, before the command asks for one per core
    folder = str(tmp_path_factory.mktemp("cache"))
    before = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    jax.config.update("jax_compilation_cache_dir", folder)
    with kept_programs():
        yield
    jax.config.update("jax_compilation_cache_dir", before)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR")
    if before is not None:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = before


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """First the baseline alone, then the rest: it just adds."""
    out = tmp_path_factory.mktemp("finished") / "out"
    first = typed("--seeds", 2, "--variants", "cross-attention", "--out", out)
    assert covered(out) == {("cross-attention", 0), ("cross-attention", 1)}
    assert "covers 1 of the suite's 2 variants; blind was left" in (out / "report.md").read_text()
    second = typed("--seeds", 2, "--out", out, report=True)
    return out, first, second


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


DAMAGES = [
    {
        "items.npz is not as it was written": emptied("items.npz"),
        "maps.npz is not as it was written": rewritten("maps.npz", lambda c: c[: len(c) // 2]),
        "metrics.json is not as it was written": rewritten("metrics.json", lambda c: b"[]"),
        "files.sha256 is missing": lambda run: (run / "files.sha256").unlink(),
    },
    {
        "items.npz is not as it was written": other_shape,
        "files.sha256 is damaged": rewritten("files.sha256", lambda c: b"\xff" + c),
        "metrics.json is not as it was written": changed(
            metrics={driver.SUITE.primary: float("nan")}
        ),
        "items.npz is missing or cannot be read": lambda run: (run / "items.npz").unlink(),
    },
]


@pytest.mark.parametrize("damages", [DAMAGES[0], pytest.param(DAMAGES[1], marks=pytest.mark.slow)])
def test_a_damaged_run_is_measured_again(finished, tmp_path, damages):
    """Not trained: from its last checkpoint; and it is said."""
    out = shutil.copytree(finished[0], tmp_path / "out")
    runs = [out / "runs" / variant / f"seed{seed}" for variant in VARIANTS[::-1] for seed in (0, 1)]
    for run, damage in zip(runs, damages.values(), strict=True):
        damage(run)
    with (runs[0] / "log.jsonl").open("ab") as log:
        log.write(b"\xff\n{}\n")
    said = typed("--seeds", 2, "--out", out)[1]
    for run, what in zip(runs, damages, strict=True):
        assert f"{run}: {what}: measuring it again" in said
    assert f"{runs[0] / 'log.jsonl'} is damaged: 1 of its lines are lost" in said
    assert results(out)["runs"] == results(finished[0])["runs"]
    assert results(out)["comparisons"] == results(finished[0])["comparisons"]
    for run in runs:
        events = [line for line in read_lines(run / "log.jsonl") if "event" in line]
        assert [line["step"] for line in events if line["event"] == "resume"] == [23]
    assert "4 runs are finished, 0 to go" in typed("--seeds", 2, "--out", out)[1]


def test_a_damaged_log_of_a_finished_run_changes_nothing(finished, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "out")
    for log in out.glob("runs/*/*/log.jsonl"):
        log.write_bytes(log.read_bytes().replace(b"loss", b"lo\xffs", 1))
    assert "4 runs are finished, 0 to go" in typed("--seeds", 2, "--out", out)[1]
    assert results(out)["runs"] == results(finished[0])["runs"]


def test_a_changed_variant_runs_again_and_the_others_do_not(finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    slower = {"model.context_view": "none", "optimizer.learning_rate": 1e-3}
    variants = {"cross-attention": {}, "blind": slower}
    suite = dataclasses.replace(driver.SUITE, variants=variants, primary="pairs/accuracy")
    monkeypatch.setattr(sys.modules["configs.tiny"], "SUITE", suite)
    before = (out / "runs" / "blind" / "seed0" / "metrics.json").read_bytes()
    options = ("--seeds", 2, "--out", out)
    changed = "blind has changed (optimizer.learning_rate 0.002 -> 0.001): its 2 runs are run again"
    measured = "cross-attention was not measured by pairs/accuracy: its 2 runs are measured again"
    monkeypatch.setattr(training, "Bar", Counting)
    _, err = typed(*options)
    assert changed in err
    assert measured in err
    # The baseline was measured again from its last checkpoint: no step of it was run.
    assert Counting.steps == {"blind": 46, "cross-attention": 0}
    assert (out / "stale" / "blind" / "1" / "seed0" / "metrics.json").read_bytes() == before
    again, first = (
        {(run["variant"], run["seed"]): run["metrics"] for run in results(folder)["runs"]}
        for folder in (out, finished[0])
    )
    assert {one for one in first if again[one] == first[one]} == {
        ("cross-attention", seed) for seed in range(2)
    }
    assert results(out)["comparisons"][0]["metric"] == "pairs/accuracy"


def test_killed_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path):
    """To the last digit: on one kind of processor, with the same devices and software."""
    out = tmp_path / "out"
    options = ("--seeds", "2", "--out", str(out))
    killed(17, *options)  # after 17 of 92 steps, on whatever lane
    code, said = interrupted(*options)
    assert code == 130
    assert "0 of 4 runs are finished" in said
    assert "goes on from step " in said
    assert f"\nto go on: python -m experiments.ablate tiny --seeds 2 --out {out}\n" in said
    killed(-2, *options)  # while the second file of arrays is being saved
    assert not (out / "results.json").exists()
    typed(*options)
    assert results(out)["runs"] == results(finished[0])["runs"]
    assert results(out)["comparisons"] == results(finished[0])["comparisons"]
    logs = [path.read_text() for path in out.glob("runs/*/*/log.jsonl")]
    lines = [json.loads(line) for log in logs for line in log.splitlines()]
    assert [line["step"] for line in lines if line.get("event") == "resume"]


def test_seeds_at_the_same_time_equal_each_alone(finished, tmp_path, monkeypatch):
    some = lambda axes: make_mesh(axes, devices=jax.devices()[:4])
    monkeypatch.setattr("crossattn.launch.devices.make_mesh", some)
    out = tmp_path / "out"
    options = ("--variants", "cross-attention", "--out", str(out))
    interrupted("--seeds", "1", *options)
    # One seed was at step 5, on one device; it waits at its end for the other.
    typed("--seeds", 2, *options, "--mesh", "seed=2,context=2")
    log = (out / "runs" / "cross-attention" / "seed0" / "log.jsonl").read_text().splitlines()
    assert [line["step"] for line in map(json.loads, log) if line.get("event") == "resume"] == [5]
    alone = {(run["variant"], run["seed"]): run["metrics"] for run in results(finished[0])["runs"]}
    for run in results(out)["runs"]:
        assert run["metrics"] == pytest.approx(alone[run["variant"], run["seed"]], abs=1e-5)
    assert results(out)["environment"]["seeds"].startswith("2 at a time, ")
    # The mesh is no part of the suite: without it nothing is left to do.
    assert "2 runs are finished, 0 to go" in typed("--seeds", 2, *options)[1]


@pytest.mark.slow
def test_groups_killed_and_resumed_equal_uninterrupted_and_each_alone(finished, tmp_path):
    grouped = ("--seeds", "2", "--steps-per-program", "3", "--seeds-together", "true")
    whole, out = tmp_path / "whole", tmp_path / "out"
    said = typed(*grouped, "--out", whole)[1]
    assert "blind: 2 seeds of a variant in one program, 3 steps per dispatch; about " in said
    options = (*grouped, "--out", str(out))
    killed(11, *options)
    code, said = interrupted(*options)
    assert code == 130
    assert "goes on from step " in said
    killed(-2, *options)  # while the second file of arrays is being saved
    typed(*options)
    for part in ("runs", "comparisons"):
        assert results(out)[part] == results(whole)[part]
    alone = {(run["variant"], run["seed"]): run["metrics"] for run in results(finished[0])["runs"]}
    for run in results(whole)["runs"]:
        assert run["metrics"] == pytest.approx(alone[run["variant"], run["seed"]], abs=1e-5)
    for folder in (whole, out):
        how = results(folder)["environment"]
        assert how["seeds"] == "2 seeds of a variant in one program, 3 steps per dispatch"
        assert {timing["seeds_together"] for timing in how["timings"].values()} == {2}
    record = read_record(out / "runs" / "blind" / "seed1")
    assert record.grouping == {"seeds": 2, "steps": 3}
    # What is finished is finished, however it was trained; a new seed is a group by itself.
    typed("--seeds", 3, "--variants", "cross-attention", "--out", out)
    assert results(out)["environment"]["seeds"].endswith("; " + describe_grouping(1, 1))


@pytest.mark.slow
@pytest.mark.parametrize("fate", [renamed, removed, replaced_by_a_file, run_removed])
def test_a_folder_taken_away_is_one_line_and_what_is_whole_goes_on(finished, tmp_path, fate):
    out, aside = tmp_path / "out", tmp_path / "aside"
    options = ("--seeds", "1", "--variants", "cross-attention", "--out", str(out))

    class Fatal(training.Bar):
        def __call__(self, label, step, metrics):
            super().__call__(label, step, metrics)
            if step == 7:
                fate(out, aside)

    code, said = ended_by(Fatal, *options)
    assert code == 2
    assert "moved, removed or replaced while this command ran" in said
    assert said.splitlines()[-1].startswith("ablate: ")
    assert "Traceback" not in said
    if fate is replaced_by_a_file:
        out.unlink()
    # Nothing was made that the same command would refuse.
    assert "1 runs of 23 steps to do" in typed(*options, "--dry-run")[0]
    if fate is renamed:
        shutil.rmtree(out, ignore_errors=True)  # what came back of a save under way
        aside.rename(out)
        typed(*options)
        wanted = [run for run in results(finished[0])["runs"] if run["seed"] == 0]
        assert results(out)["runs"] == [run for run in wanted if run["variant"] != "blind"]


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


@pytest.fixture(scope="module")
def measured(finished, tmp_path_factory):
    out = tmp_path_factory.mktemp("measured")
    run = finished[0] / "runs" / "cross-attention" / "seed1"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        evaluate.main([str(run), "--out", str(out)])
    return run, out, said.getvalue()


def test_evaluate_measures_what_the_suite_measured_and_more(measured):
    run, out, said = measured
    ours = json.loads((out / "metrics.json").read_text())
    theirs = json.loads((run / "metrics.json").read_text())
    assert {name: ours["metrics"][name] for name in theirs["metrics"]} == theirs["metrics"]
    assert (ours["step"], ours["split"]) == (23, "iid")
    assert {"knockout/truth/layer0", "pointing/answer/layer0/head1"} <= set(ours["metrics"])
    report = (out / "report.md").read_text()
    for figure in ("gallery", "heads", "layers"):
        assert f"figures/{figure}.png" in report
        assert (out / "figures" / f"{figure}.png").stat().st_size > 5_000
    assert "truth, layer 0" in said
    assert f"report: {out}/report.html" in said


def test_evaluate_over_a_mesh_measures_the_same(measured, tmp_path, monkeypatch):
    run, out, _ = measured
    two = lambda axes: make_mesh(axes, devices=jax.devices()[:2])
    monkeypatch.setattr("crossattn.launch.devices.make_mesh", two)
    monkeypatch.setattr("crossattn.report.evaluation.write_evaluation", lambda *_: [])
    evaluate.main([str(run), "--out", str(tmp_path), "--mesh", "context=2"])
    wanted, found = (
        json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (out, tmp_path)
    )
    assert found == pytest.approx(wanted, abs=1e-5)


def test_evaluate_passes_over_a_damaged_checkpoint(finished, measured, tmp_path, capsys):
    suite = shutil.copytree(finished[0], tmp_path / "suite")
    run = suite / "runs" / "blind" / "seed0"
    shutil.rmtree(run / "checkpoints" / "23" / "state")
    before = sorted(path for path in suite.rglob("*") if "evaluation" not in path.parts)
    evaluate.main([str(suite), "--variant", "blind", "--seed", "0", "--on", "pairs"])
    shown = capsys.readouterr()
    assert "checkpoints/23 is damaged: taking that of step 20 instead" in shown.err
    content = json.loads((run / "evaluation" / "pairs" / "metrics.json").read_text())
    assert (content["step"], content["split"], content["variant"]) == (20, "pairs", "blind")
    # The run itself is as it was.
    assert sorted(path for path in suite.rglob("*") if "evaluation" not in path.parts) == before
    # Its settings changed by hand, it is no checkpoint of that model.
    record = run / "run.json"
    record.write_text(record.read_text().replace('"width": 8', '"width": 16'))
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(run / "checkpoints" / "20")])
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert "20 is a checkpoint of another model: params/params/" in shown.err
    assert shown.err.count("\n") == 1
