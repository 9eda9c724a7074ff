"""Training: resumed equals uninterrupted, one program for all seeds, no step on NaN."""

import json
import os
import platform
import shutil
import stat
import subprocess

import jax
import numpy as np
import pytest

from crossattn.files import write_atomically
from crossattn.train.checkpoint import Checkpoints
from crossattn.train.log import Log, read_lines
from crossattn.train.loop import NonFiniteLossError, fit
from crossattn.train.run import replace
from crossattn.train.source import batches_of
from tests.support.families import some_quick


class KilledError(Exception):
    pass


def kill_at(step):
    def progress(done, metrics):
        if done == step:
            raise KilledError

    return progress


@pytest.fixture(scope="module")
def uninterrupted(programs, run, examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, fit(programs, batches_of(run, examples, 0), folder)


TIMED = ("time", "teraflops", "mfu")


def curve(folder):
    """All that a log says of training but what was timed."""
    lines = [line for line in read_lines(folder / "log.jsonl") if "loss" in line]
    return [{name: line[name] for name in line if name not in TIMED} for line in lines]


@pytest.mark.parametrize("stops", some_quick([(2,), (5, 11), (8, 9, 12)], [(5, 11)]))
def test_resumed_equals_uninterrupted(
    uninterrupted, programs, run, examples, tmp_path, same, stops
):
    for stop in stops:
        with pytest.raises(KilledError):
            fit(programs, batches_of(run, examples, 0), tmp_path, progress=kill_at(stop))
    state = fit(programs, batches_of(run, examples, 0), tmp_path)
    assert same(state, uninterrupted[1])
    lines = read_lines(tmp_path / "log.jsonl")
    resumed = [line["step"] for line in lines if line.get("event") == "resume"]
    assert resumed == [4 * ((stop - 1) // 4) for stop in stops if stop > 4]
    # Checkpoints of steps 4, 8 and 12 lie within what the lines of steps 10 and 20 are means of.
    assert curve(tmp_path) == curve(uninterrupted[0])
    assert [line["step"] for line in curve(tmp_path)] == [10]


def test_a_finished_run_is_restored_not_repeated(uninterrupted, programs, run, examples, same):
    folder, state = uninterrupted
    again = fit(programs, batches_of(run, examples, 0), folder, progress=kill_at(1))
    assert same(again, state)
    with Checkpoints(folder / "checkpoints") as checkpoints:
        assert checkpoints.latest() == run.steps
        assert checkpoints.restore(state).position == {"epoch": 0, "batch": 13}


def test_a_damaged_checkpoint_is_passed_over_and_said(
    uninterrupted, programs, run, examples, tmp_path, same
):
    folder = shutil.copytree(uninterrupted[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "13" / "state")
    said: list[str] = []
    state = fit(programs, batches_of(run, examples, 0), folder, notify=said.append)
    assert same(state, uninterrupted[1])
    assert said == [f"{folder}/damaged/13 is a damaged checkpoint: going on from step 12 instead"]
    events = [line for line in read_lines(folder / "log.jsonl") if "event" in line]
    assert [(line["event"], line["step"]) for line in events[1:]] == [
        ("damaged-checkpoint", 12),
        ("resume", 12),
    ]
    assert events[1]["checkpoint"] == 13


def test_seeds_and_learning_rates_share_one_program(programs, run, examples, tmp_path, same):
    states = [
        fit(
            programs,
            batches_of(run, examples, seed),
            tmp_path / f"{seed}{rate}",
            learning_rate=rate,
        )
        for seed in (0, 1)
        for rate in (None, 0.02)
    ]
    assert not any(same(states[0].params, other.params) for other in states[1:])
    # Restored states are committed to a device, so that one shape may count twice.
    assert programs.step._cache_size() <= 2
    assert programs.create._cache_size() == 1


def test_loss_falls_where_one_batch_is_repeated(programs, run, examples):
    feed = batches_of(run, examples, 0)
    state, losses = programs.create(0, feed.batch(0)), []
    for _ in range(10):
        state, metrics = programs.step(
            state, feed.batch(0), np.float32(run.optimizer.learning_rate)
        )
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.9 * losses[0]


def test_a_non_finite_loss_stops_with_step_and_checkpoint(programs, run, examples, tmp_path):
    broken = batches_of(run, examples, 0)
    whole = broken.drawn.batch

    def batch(step):
        arrays = whole(step)
        nothing = arrays["images"] * np.float32(np.nan)
        return {**arrays, "images": nothing} if step == 9 else arrays

    broken.drawn.batch = batch
    with pytest.raises(NonFiniteLossError, match=r"step 10: .*nan.*checkpoints/8; try") as error:
        fit(programs, broken, tmp_path)
    assert "\n" not in str(error.value)
    events = [line for line in read_lines(tmp_path / "log.jsonl") if "event" in line]
    assert events[-1]["event"] == "non-finite"
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["4", "8"]


def test_step_donates_its_state(programs, run, examples):
    feed = batches_of(run, examples, 0)
    state = programs.create(0, feed.batch(0))
    kernel = state.params["params"]["logits"]["kernel"]
    programs.step(state, feed.batch(0), np.float32(run.optimizer.learning_rate))
    assert kernel.is_deleted()


def test_the_state_keeps_shapes_dtypes_and_placement(programs, run, examples):
    feed = batches_of(run, examples, 0)
    state = programs.create(0, feed.batch(0))
    before = jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state)
    state, _ = programs.step(state, feed.batch(0), np.float32(run.optimizer.learning_rate))
    assert jax.tree.map(lambda x: (x.shape, x.dtype, x.sharding), state) == before


def test_a_checkpoint_of_other_data_is_refused(uninterrupted, programs, run, examples):
    other = batches_of(replace(run, {"batch_size": 20}), examples, 0)
    with pytest.raises(ValueError, match=r"stands at .*'batch': 13.* would stand at"):
        fit(programs, other, uninterrupted[0])


def test_a_log_cut_by_a_kill_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 2}\n{"step": 4}\n{"step": 6, "lo')
    with Log(path, resume_at=3) as log:
        log.write(5, loss=1.0)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 5]


@pytest.mark.parametrize(
    "damage",
    [b"\xff", b"[]", b'{"step": "4"}', b'{"step": 4, "loss": "x"}', b'{"step": 4, "loss": NaN}'],
)
def test_a_damaged_line_is_left_out_and_counted(tmp_path, damage):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 2}\n' + damage + b'\n{"step": 6, "loss": 1.5, "time": 3}\n')
    assert [line["step"] for line in read_lines(path)] == [2, 6]
    with Log(path, resume_at=9) as log:
        assert log.damaged == 1
    with Log(path, resume_at=9) as log:
        assert log.damaged == 0
    assert [line["step"] for line in read_lines(path)] == [2, 6]


@pytest.mark.parametrize("fate", ["renamed", "removed", "made anew", "a file"])
def test_a_log_that_was_taken_away_is_said(tmp_path, fate):
    folder = tmp_path / "run"
    folder.mkdir()
    with Log(folder / "log.jsonl") as log:
        log.write(1)
        folder.rename(tmp_path / "other")
        if fate == "removed":
            shutil.rmtree(tmp_path / "other")
        if fate == "made anew":
            shutil.copytree(tmp_path / "other", folder)
        if fate == "a file":
            folder.write_text("")
        with pytest.raises(FileNotFoundError, match="moved, removed or replaced"):
            log.write(2)


def test_temporary_files_of_the_dead_are_removed(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    write_atomically(tmp_path / "a.json", "old")
    for name in ("a.json", "b.json"):
        for process in (dead.pid, os.getppid()):
            (tmp_path / f".{name}.{platform.node()}.{process}").write_text("half")
    write_atomically(tmp_path / "a.json", "new")
    left = {path.name for path in tmp_path.iterdir()} - {"a.json"}
    here = f".{platform.node()}."
    assert left == {f".a.json{here}{os.getppid()}"} | {
        f".b.json{here}{process}" for process in (dead.pid, os.getppid())
    }


def test_files_are_on_the_disk_before_their_name_is(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    kind = lambda file: "folder" if stat.S_ISDIR(os.fstat(file).st_mode) else "file"
    monkeypatch.setattr("os.fsync", lambda file: (done.append(kind(file)), sync(file)))
    monkeypatch.setattr("os.replace", lambda *names: (done.append("name"), replace(*names)))
    write_atomically(tmp_path / "a.json", "whole")
    assert done == ["file", "name", "folder"]


def test_files_are_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    write_atomically(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
