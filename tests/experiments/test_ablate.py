"""The command as a user types it: results, resuming, killing, and one clear line for each error."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import ablate
from experiments.command_line import plain_errors

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))

import driver  # noqa: E402

driver.install()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def command(cache):
    """Run the driver in a process of its own."""

    def run(kill_after, *options):
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache), "PYTHONPATH": "."}
        script = [sys.executable, "tests/experiments/driver.py", str(kill_after), *options]
        return subprocess.run(
            script, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture(scope="module")
def finished(command, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "out"
    done = command(0, "--seeds", "3", "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, done


def results(out):
    return json.loads((out / "results.json").read_text())


def test_results_and_report(finished):
    out, done = finished
    found = results(out)
    assert {(run["variant"], run["seed"]) for run in found["runs"]} == {
        (variant, seed) for variant in ("blind", "cross-attention") for seed in range(3)
    }
    assert found["primary"] == "iid/accuracy"
    comparison = found["comparisons"][0]
    assert {"variant", "baseline", "metric", "difference", "low", "high", "p_holm"} <= set(
        comparison
    )
    assert not any("seconds" in name for run in found["runs"] for name in run["metrics"])
    assert found["environment"]["timings"]["blind"]["parameters"] > 0
    assert found["learning_rate_sweep"] == {}
    report = (out / "report.md").read_text()
    assert "No learning-rate sweep" in report
    for figure in ("differences", "gallery", "learning"):
        assert (out / "figures" / f"{figure}.png").stat().st_size > 10_000
    assert "cross-attention" in done.stdout
    assert "Traceback" not in done.stderr


def test_what_is_finished_never_runs_again(command, finished):
    out, _ = finished
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*/metrics.json")}
    again = command(1, "--seeds", "3", "--out", str(out))  # a single step would be fatal
    assert again.returncode == 0, again.stderr
    assert "6 runs are finished, 0 to go" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_killed_at_random_and_resumed_equals_uninterrupted(command, finished, tmp_path):
    out = tmp_path / "out"
    # After so many of 138 steps, on whatever lane; -2: while the second run is being saved.
    for steps in (17, -2, 29, 11):
        killed = command(steps, "--seeds", "3", "--out", str(out))
        assert killed.returncode == -signal.SIGKILL
        assert not (out / "results.json").exists()
    assert command(0, "--seeds", "3", "--out", str(out)).returncode == 0
    assert results(out)["runs"] == results(finished[0])["runs"]
    assert results(out)["comparisons"] == results(finished[0])["comparisons"]
    logs = [path.read_text() for path in out.glob("runs/*/*/log.jsonl")]
    lines = [json.loads(line) for log in logs for line in log.splitlines()]
    resumed = [line["step"] for line in lines if line.get("event") == "resume"]
    assert resumed


def test_sweep_is_reported_with_its_choice(command, tmp_path):
    out = tmp_path / "out"
    done = command(0, "--seeds", "1", "--quick", "--sweep", "--out", str(out))
    assert done.returncode == 0, done.stderr
    sweep = results(out)["learning_rate_sweep"]
    assert set(sweep) == {"blind", "cross-attention"}
    assert sweep["blind"]["learning_rate"] in driver.SUITE.learning_rates
    assert set(sweep["blind"]["validation_accuracy"]) == {"0.001", "0.01"}
    assert "No learning-rate sweep" not in (out / "report.md").read_text()
    # One seed allows no claim.
    assert results(out)["comparisons"][0]["low"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fusoin"], "there is no suite 'fusoin': did you mean fusion?"),
        (["zzz"], "choose one of easy_vqa, fusion"),
        (["tiny", "--stesp", "3"], "--stesp"),
        (["tiny", "--steps", "many"], "--steps"),
        (["tiny", "--steps", "-4"], "steps must be positive, got -4"),
        (["tiny", "--model.perception", "eyes"], "eyes"),
        (["tiny", "--seeds", "0"], "--seeds must be at least 1, got 0"),
        (["tiny", "--model.fusion", "mean-pool"], "--model.fusion is what the suite tiny varies"),
        (["tiny", "--data.images", "101", "--out", "OUT"], "multiple of 100"),
        (["tiny", "--model.perception", "window", "--out", "OUT"], "not for scenes"),
        (["tiny", "--out", "/proc/nowhere"], "cannot write"),
        (["tiny", "--out", "FILE"], "cannot write"),
        (["tiny", "--out", "OTHER"], "holds the suite other, not tiny"),
        (["tiny", "--out", "FOREIGN"], "is not empty and holds no suite"),
        (["tiny", "--out", "DAMAGED"], "suite.json is damaged"),
        (["tiny", "--steps", "22", "--out", "OURS"], "steps is 23 there and 22 here"),
        (["tiny", "--sweep", "--out", "OURS"], "sweep is False there and True here"),
        (["tiny", "--sweep", "--optimiser.learning-rate", "1.0"], "what --sweep chooses"),
        (["tiny", "--data.flip", "--out", "OUT"], "data.flip is not for scenes"),
        (["tiny", "--data.tasks", "caption", "--out", "OUT"], "no questions to evaluate"),
        (["tiny", "--batch-size", "4000", "--out", "OUT"], "do not fill one batch"),
        (
            [
                "fusion",
                "--data.source",
                "easy_vqa",
                "--model.perception",
                "window",
                "--data.images",
                "40",
                "--data.evaluation-images",
                "30",
                "--out",
                "OUT",
            ],
            "needs the split 'pairs'",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, tmp_path, finished, capsys):
    (tmp_path / "other").mkdir()
    other = {"suite": "other", "fingerprint": "x", "settings": {}}
    (tmp_path / "other" / "suite.json").write_text(json.dumps(other))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "suite.json").write_text('{"suite": ')
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    places = {
        "OUT": tmp_path / "out",
        "OTHER": tmp_path / "other",
        "DAMAGED": tmp_path / "damaged",
        "FOREIGN": tmp_path / "foreign",
        "FILE": tmp_path / "file",
        "OURS": finished[0],
    }
    before = results(finished[0])
    with pytest.raises(SystemExit) as end:
        ablate.main([str(places.get(word, word)) for word in arguments])
    shown = capsys.readouterr()
    assert end.value.code == 2
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("ablate: ")
    assert "Traceback" not in shown.err
    assert not (tmp_path / "out" / "suite.json").exists()
    assert (tmp_path / "file").read_text() == "precious"
    assert [p.name for p in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    assert results(finished[0]) == before


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=3_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: free)
    with pytest.raises(SystemExit) as end:
        ablate.main(["tiny", "--seeds", "2", "--out", str(tmp_path / "out")])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "has 3.0 MB left, 4 runs need about 16 MB" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(28, "No space left on device", "log.jsonl"), "log.jsonl: No space left on device"),
        (ValueError("wrapped [os_error_code='28']"), "No space left on device"),
        (ValueError("a defect of ours"), None),
    ],
)
def test_what_the_system_said_is_found(error, said, capsys):
    if said is None:
        with pytest.raises(ValueError, match="defect"), plain_errors("ablate", ()):
            raise error
        return
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise RuntimeError("saving failed") from error
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_interrupting_says_what_is_safe(capsys):
    with pytest.raises(SystemExit) as end, plain_errors("ablate", ()):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_help_names_the_suites_and_the_options(capsys):
    with pytest.raises(SystemExit) as end:
        ablate.main(["--help"])
    assert end.value.code == 0
    assert "easy_vqa" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        ablate.main(["fusion", "--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "--optimiser.learning-rate" in shown
    assert "Peak learning rate" in shown
