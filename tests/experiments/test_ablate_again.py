"""What of a finished suite is done again: what is damaged, and what has changed."""

import dataclasses
import shutil
import sys

import pytest

from crossattn.lab import training
from crossattn.train.log import read_lines
from tests.support import driver
from tests.support.suite_command import (
    Counting,
    changed,
    emptied,
    other_shape,
    results,
    rewritten,
    typed,
)

pytestmark = pytest.mark.usefixtures("programs")

VARIANTS = ("blind", "cross-attention")


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
