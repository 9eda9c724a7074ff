"""Which runs `usage` measures: finished ones, each once, the seeds of a variant in their order."""

import json

import pytest

from crossattn import lab
from crossattn.lab.errors import LabError
from crossattn.lab.usage import _folders


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
