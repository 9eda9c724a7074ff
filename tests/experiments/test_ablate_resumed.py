"""Suites that were killed, interrupted, or lost their folder, and go on."""

import json
import shutil

import jax
import pytest

from crossattn.lab import training
from crossattn.sharding import make_mesh
from crossattn.train.grouping import describe_grouping
from crossattn.train.record import read_record
from tests.support.suite_command import (
    ended_by,
    interrupted,
    killed,
    removed,
    renamed,
    replaced_by_a_file,
    results,
    run_removed,
    typed,
)

pytestmark = pytest.mark.usefixtures("programs")


@pytest.mark.parametrize("saving", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_killed_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path, saving):
    """To the last digit: on one kind of processor, with the same devices and software."""
    out = tmp_path / "out"
    options = ("--seeds", "2", "--out", str(out))
    killed(17, *options)  # after 17 of 92 steps, on whatever lane
    code, said = interrupted(*options)
    assert code == 130
    assert "0 of 4 runs are finished" in said
    assert "goes on from step " in said
    assert f"\nto go on: python -m experiments.ablate tiny --seeds 2 --out {out}\n" in said
    if saving:
        killed(-2, *options)  # while the second file of arrays is being saved
    assert not (out / "results.json").exists()
    typed(*options)
    assert results(out)["runs"] == results(finished[0])["runs"]
    assert results(out)["comparisons"] == results(finished[0])["comparisons"]
    logs = [path.read_text() for path in out.glob("runs/*/*/log.jsonl")]
    lines = [json.loads(line) for log in logs for line in log.splitlines()]
    assert [line["step"] for line in lines if line.get("event") == "resume"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "count"),
    [("seed=2", 2), ("seed=2,context=2", 4)],
)
def test_seeds_at_the_same_time_equal_each_alone(finished, tmp_path, monkeypatch, axes, count):
    some = lambda axes: make_mesh(axes, devices=jax.devices()[:count])
    monkeypatch.setattr("crossattn.launch.devices.make_mesh", some)
    out = tmp_path / "out"
    options = ("--variants", "cross-attention", "--out", str(out))
    interrupted("--seeds", "1", *options)
    # One seed was at step 5, on one device; it waits at its end for the other.
    typed("--seeds", 2, *options, "--mesh", axes)
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
