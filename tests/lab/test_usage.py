"""Which runs `usage` measures: finished ones, each once, the seeds of a variant in their order."""

import json

import pytest

from crossattn import lab
from crossattn.lab.errors import LabError
from crossattn.lab.usage import _folders
from crossattn.train.checkpoint import Checkpoints
from crossattn.train.loop import TrainPrograms
from crossattn.train.record import RunRecord, library_versions, write_record
from crossattn.train.run import Data, Model, Run
from crossattn.train.source import batches_of, load_dataset
from experiments import usage as command

RUN = Run(
    data=Data(images=100, evaluation_images=100),
    model=Model(width=8, layers=1, heads=2),
    steps=5,
    batch_size=10,
)


@pytest.fixture
def suite(tmp_path):
    for variant, seeds in (("plain", (10, 2, 0)), ("blind", (1,)), ("begun", ())):
        for seed in seeds:
            run = tmp_path / "runs" / variant / f"seed{seed}"
            run.mkdir(parents=True)
            (run / "metrics.json").write_text(json.dumps({"metrics": {}, "seed": seed}))
    (tmp_path / "runs" / "begun" / "seed0").mkdir(parents=True)
    return tmp_path


def chosen(path, variants=()):
    return ["/".join(folder.parts[-2:]) for folder in _folders(path, variants)]


def test_every_finished_run_is_measured_once(suite):
    plain = ["plain/seed0", "plain/seed2", "plain/seed10"]
    assert chosen(suite, ("blind", "plain", "blind")) == ["blind/seed1", *plain]
    assert chosen(suite / "runs" / "plain") == plain
    (suite / "results.json").write_text(json.dumps({"baseline": "plain"}))
    assert chosen(suite) == plain
    (suite / "runs/plain/seed2/run.json").touch()
    assert chosen(suite / "runs/plain/seed2") == ["plain/seed2"]


@pytest.mark.parametrize(
    ("place", "variants", "said"),
    [
        ("", (), "has no results.json yet: name variants, of blind plain"),
        ("", ("plane",), "has no finished run of a variant 'plane': did you mean plain?"),
        ("", ("begun",), "has no finished run of a variant 'begun': choose one of blind, plain"),
        ("runs/plain", ("plain",), "is no suite's folder: leave variants out"),
        ("runs/begun", (), "it holds no run"),
        ("nowhere", (), "there is no folder"),
    ],
)
def test_what_cannot_be_measured_is_said(suite, place, variants, said):
    with pytest.raises(LabError, match=said.replace("?", r"\?")):
        lab.measure_usage(str(suite / place), variants)
    assert not (suite / place / "usage").exists()


@pytest.mark.slow
def test_a_run_before_its_first_step_is_its_own_reference(tmp_path, capsys):
    source = load_dataset(RUN)
    place = tmp_path / "runs" / "words" / "seed0"
    write_record(place, RunRecord("tiny", "words", 0, RUN, library_versions()))
    programs = TrainPrograms(RUN, len(source.vocabulary))
    state = programs.create(0, batches_of(RUN, source.train, 0).batch(0))
    with Checkpoints(place / "checkpoints") as checkpoints:
        checkpoints.save(RUN.steps, state, {"epoch": 0, "batch": 0})
    (place / "metrics.json").write_text(json.dumps({"seed": 0, "metrics": {}}))
    command.main([str(tmp_path), "--variants", "words"])
    assert "uses where it attends" not in capsys.readouterr().out
    found = json.loads((tmp_path / "usage" / "usage.json").read_text())
    assert [(run["variant"], run["seed"]) for run in found["runs"]] == [("words", 0)]
    assert [row["variant"] for row in found["references"]] == ["untrained", "random attention"]
    metrics = found["runs"][0]["metrics"]
    assert metrics == {name: found["references"][0]["metrics"][name] for name in metrics}
    for name in ("spearman/attention", "knockout/intact", "pointing/answer"):
        assert len(found["items"]["words"][name]) == 1
    assert (tmp_path / "usage" / "report.html").exists()
