"""Loggers: they hear every step once, also over a kill, and none of them ends a run."""

import importlib.util
import json
import struct

import pytest

from crossattn.launch.options import LogOptions
from crossattn.train import ablation, loggers, seat
from crossattn.train.ablation import Listener
from crossattn.train.folder import Folder
from crossattn.train.log import Log, read_lines
from crossattn.train.loop import Seat, fit_seeds
from crossattn.train.open_loggers import NO_LOGGERS, OpenLoggers, open_loggers
from crossattn.train.record import RunRecord
from crossattn.train.run import Run
from crossattn.train.source import batches_of

from .test_loop import KilledError, kill_at


class Recorder:
    """Keeps what it hears; a run that goes on is recorded as another one."""

    def __init__(self):
        self.runs = []

    def start(self, description):
        self.runs.append(Recording(description))
        return self.runs[-1]


class Recording:
    def __init__(self, description):
        self.description, self.records, self.finished = description, [], 0

    def log(self, record):
        self.records.append(record)

    def finish(self):
        self.finished += 1


class Failing:
    """Raises in the given method."""

    def __init__(self, method):
        self.method = method

    def start(self, description):
        return self._do("start")

    def log(self, record):
        return self._do("log")

    def finish(self):
        return self._do("finish")

    def _do(self, name):
        if name == self.method:
            raise ConnectionError("no\nnetwork")
        return self


DESCRIPTION = {"name": "fusion/blind/seed0"}


@pytest.fixture
def record():
    return RunRecord("fusion", "blind", 3, Run(steps=7), {"jax": "1"})


def steps(recording):
    return [record["step"] for record in recording.records if "loss" in record]


def test_every_step_is_heard_once_over_a_kill(programs, run, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(seat, "LOG_EVERY", 2)
    recorder = Recorder()

    def train(progress=lambda step, metrics: None):
        with OpenLoggers([recorder], DESCRIPTION) as heard:
            one = Seat(batches_of(run, examples, 0), tmp_path, progress, loggers=heard)
            return fit_seeds(programs, [one])

    with pytest.raises(KilledError):
        train(kill_at(7))  # the checkpoint is of step 4, and step 6 was heard
    train()
    first, second = recorder.runs
    assert steps(first) == [2, 4, 6]
    assert steps(second) == list(range(8, run.steps + 1, 2))
    logged = [line for line in read_lines(tmp_path / "log.jsonl") if "loss" in line]
    assert [line["step"] for line in logged] == steps(first) + steps(second)
    assert second.records[-1] == logged[-1]
    assert [record["event"] for record in second.records if "event" in record] == ["resume"]
    assert first.finished == second.finished == 1


@pytest.mark.parametrize("method", ["start", "log", "finish"])
def test_what_fails_is_told_once_and_the_others_go_on(method):
    told, recorder = [], Recorder()
    with OpenLoggers([Failing(method), recorder], DESCRIPTION, told.append) as heard:
        heard.log({"step": 1, "loss": 1.0})
        heard.log({"step": 2, "loss": 0.5})
    assert told == [
        "fusion/blind/seed0: Failing: ConnectionError: no network; training goes on without it"
    ]
    assert steps(recorder.runs[0]) == [1, 2]
    assert recorder.runs[0].finished == 1


def test_a_run_is_described_and_keeps_its_name(record, tmp_path):
    recorder = Recorder()
    for folder in ("a", "a", "b"):
        (tmp_path / folder).mkdir(exist_ok=True)
        open_loggers([recorder], record, tmp_path / folder)
    one, again, other = (run.description for run in recorder.runs)
    assert one["name"] == "fusion/blind/seed3"
    assert one["run"]["steps"] == 7
    assert one["folder"] == str(tmp_path / "a")
    assert json.dumps(one)
    assert one["id"] == again["id"] != other["id"]


def test_without_loggers_a_folder_gets_nothing(record, tmp_path):
    assert open_loggers([], record, tmp_path) is NO_LOGGERS
    assert list(tmp_path.iterdir()) == []


def test_a_measured_run_hands_on_its_metrics(monkeypatch, unchecked, run, tmp_path):
    """Through the loop of an ablation, which opens loggers around training and measuring."""
    said = {}

    def measure(primary, run, evaluator, state, source, where, who, heard):
        said["open"] = len(heard.running)
        heard.log({"step": run.steps, "event": "measured", "test/accuracy": 0.5})

    recorder = Recorder()
    monkeypatch.setattr(ablation, "measure_run", measure)
    monkeypatch.setattr(ablation, "fit_seeds", lambda programs, seats, **_: [None] * len(seats))
    monkeypatch.setattr(ablation, "batches_of", lambda *_: None)
    monkeypatch.setattr(Folder, "check_there", lambda folder: None)

    class Programs:
        chunks = None
        parallel = type("P", (), {"share": staticmethod(lambda: None)})
        meter = staticmethod(lambda seat: type("M", (), {"flops": 1.0, "peak": None}))

    suite = type("S", (), {"name": "fusion", "primary": "accuracy", "baseline": "-"})
    source = type("D", (), {"train": None})
    listener = Listener(loggers=[recorder])
    runs = (suite, "blind", run, Programs, None, source, Folder(tmp_path), listener)
    ablation.VariantRuns(*runs).train([0, 1])
    assert [one.description["seed"] for one in recorder.runs] == [0, 1]
    assert said["open"] == 1
    assert recorder.runs[0].records[0]["test/accuracy"] == 0.5
    assert all(one.finished == 1 for one in recorder.runs)


def test_a_missing_package_is_one_line_that_says_what_to_type(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for name, package in (("wandb", "wandb"), ("tensorboard", "tensorboardX")):
        with pytest.raises(ValueError, match="--log-to") as error:
            LogOptions(log_to=(name,))
        wanted = f"--log-to: {package} is not installed: pip install 'crossattn[{name}]'"
        assert str(error.value) == wanted
    assert LogOptions().loggers == ()


class FakeRun:
    """A run of wandb or of trackio, as far as they are alike."""

    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    def finish(self):
        self.finished = True


@pytest.mark.parametrize(
    ("kind", "mode"), [("wandb", None), ("wandb", "online"), ("trackio", None)]
)
def test_services_get_numbers_and_nothing_unasked(kind, mode, record, tmp_path, monkeypatch):
    made, given = FakeRun(), {}

    class Module:
        Settings = dict

        @staticmethod
        def init(**named):
            given.update(named)
            return made

    monkeypatch.setitem(__import__("sys").modules, kind, Module)
    monkeypatch.setattr(loggers, "find_spec", lambda name: name)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if mode:
        monkeypatch.setenv("WANDB_MODE", mode)
    told = []
    with open_loggers(loggers.loggers_named([kind]), record, tmp_path, told.append) as heard:
        heard.log({"step": 0, "event": "start", "seeds": 1, "time": 1.0})
        heard.log({"step": 10, "loss": 0.5, "time": 2.0})
        heard.log({"step": 10, "event": "measured", "test/accuracy": 0.25, "time": 3.0})
    assert told == []
    assert made.logged == [(10, {"loss": 0.5}), (10, {"test/accuracy": 0.25})]
    assert made.finished
    assert given["config"]["steps"] == 7
    assert given["config"]["seed"] == 3
    if kind == "wandb":
        assert given["mode"] == (mode or "offline")
        assert given["resume"] == ("allow" if mode == "online" else None)
    else:
        assert given["resume"] == "allow"
        assert "space_id" not in given


def scalars(path):
    """(step, name, value) of an event file: frames of length, checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found += [(event.step, value.tag, value.simple_value) for value in event.summary.value]
        data = data[16 + length :]
    return found


@pytest.mark.skipif(not importlib.util.find_spec("tensorboardX"), reason="needs tensorboardX")
def test_tensorboard_reads_what_was_written_over_a_kill(record, tmp_path):
    for resume_at, logged in ((0, [10, 20]), (10, [20, 30])):
        with (
            open_loggers([loggers.TensorBoardLogger()], record, tmp_path) as heard,
            Log(tmp_path / "log.jsonl", resume_at=resume_at, loggers=heard) as log,
        ):
            for step in logged:
                log.write(step, loss=0.5 * step)
    files = sorted((tmp_path / "tensorboard").iterdir())
    found = sorted({one for file in files for one in scalars(file)})
    assert found == [(10, "loss", 5.0), (20, "loss", 10.0), (30, "loss", 15.0)]
    assert sum(len(scalars(file)) for file in files) == 3
