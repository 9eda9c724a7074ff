"""One model outside any suite: trained, killed and resumed, repeated from its run.json, read."""

import json
import shutil

import numpy as np
import pytest

from crossattn.lab import training
from crossattn.report import document
from crossattn.train import ablation
from crossattn.train.record import read_record
from experiments import ablate, evaluate, train
from tests.support import driver
from tests.support.kept_programs import kept_programs

driver.install()

TINY = (
    *("--data.images", "100", "--data.evaluation-images", "100", "--batch-size", "10"),
    *("--model.width", "8", "--model.layers", "1", "--model.heads", "2", "--steps", "13"),
    *("--checkpoint-every", "5", "--optimizer.ema", "0.9", "--optimizer.schedule", "rsqrt"),
)


def typed(*arguments):
    train.main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", autouse=True)
def programs():
    with kept_programs():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    typed(*TINY, "--seed", 3, "--out", out)
    return out


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_a_run_leaves_what_a_run_of_a_suite_leaves(trained):
    of = read_record(trained)
    assert (of.suite, of.variant, of.seed) == ("train", "model", 3)
    assert (of.run.steps, of.run.optimizer.ema, of.run.model.width) == (13, 0.9, 8)
    found = {path.name for path in trained.iterdir()}
    assert {"run.json", "log.jsonl", "checkpoints", "metrics.json", "items.npz"} <= found
    assert {"report.md", "report.html", "figures", "maps.npz"} <= found
    assert "train: model, seed 3, step 13" in (trained / "report.md").read_text()


def test_from_repeats_a_run_exactly(trained, tmp_path, capsys):
    typed("--from", trained / "run.json", "--out", tmp_path / "again")
    again = tmp_path / "again"
    for name in ("metrics", "chance", "curve"):
        assert metrics(again)[name] == metrics(trained)[name]
    assert read_record(again).run == read_record(trained).run
    assert f"report: {again}/report.html" in capsys.readouterr().out


@pytest.mark.slow
def test_from_repeats_a_run_of_a_suite(tmp_path, monkeypatch):
    monkeypatch.setattr(document, "write_report", lambda results, out, **_: out)
    options = ["--variants", "cross-attention", "--seeds", "1", "--out"]
    ablate.main(["tiny", *options, str(tmp_path / "suite")])
    run = tmp_path / "suite" / "runs" / "cross-attention" / "seed0"
    typed("--from", run, "--out", tmp_path / "alone")
    assert metrics(tmp_path / "alone")["metrics"] == metrics(run)["metrics"]


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_killed_and_resumed_is_the_same(trained, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    options = (*TINY, "--seed", 3, "--out", out)

    class Fatal(training.Bar):
        def __call__(self, label, step, metrics):
            super().__call__(label, step, metrics)
            if step == 8:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training, "Bar", Fatal)
        with pytest.raises(KilledError):
            typed(*options)
    assert not (out / "metrics.json").exists()
    typed(*options)
    assert metrics(out)["metrics"] == metrics(trained)["metrics"]
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if line.get("event") == "resume"] == [5]
    # What is finished is reported again, and nothing is trained.
    monkeypatch.setattr(ablation, "run_variant", lambda *_, **__: pytest.fail("trained again"))
    capsys.readouterr()
    shutil.rmtree(out / "figures")
    typed(*options)
    assert (out / "figures").exists()
    assert "report: " in capsys.readouterr().out


@pytest.mark.slow
def test_evaluate_reads_the_run(trained, tmp_path):
    evaluate.main([str(trained), "--out", str(tmp_path)])
    found, wanted = metrics(tmp_path)["metrics"], metrics(trained)["metrics"]
    assert {name: found[name] for name in wanted} == wanted


def test_what_the_encoder_sees_is_written(trained, tmp_path, capsys):
    evaluate.main([str(trained), "--features", str(tmp_path)])
    assert f"features: {tmp_path}" in capsys.readouterr().out
    assert np.load(tmp_path / "train.npy").shape == (100, 64, 8)
    assert (tmp_path / "iid.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stesp", "3"], "--stesp"),
        (["--steps", "0"], "steps must be positive, got 0"),
        (["--seed", "-1"], "--seed cannot be negative, got -1"),
        (["--optimizer.ema", "1"], "optimizer.ema is a share"),
        (["--from", "NOWHERE"], "--from takes a run.json or its folder, got"),
        (["--from", "OTHER"], "--from: cannot read"),
        (["--out", "OTHER"], "is not empty and holds no run: choose a new folder with --out"),
        ([*TINY, "--out", "TRAINED"], "holds a run with other settings (seed is 3 there and 0"),
        (["--from", "TRAINED", "--steps", "14", "--out", "TRAINED"], "(steps is 13 there and 14"),
        (["--data.images", "101"], "multiple of 100"),
        (
            ["--data.flip"],
            "data.flip is for source easy_vqa and tfds and folder and published sets, not",
        ),
        ([*TINY, "--optimizer.frozen", "encodr"], "no parameter's path matches 'encodr': near are"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, said, trained, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    places = {"OTHER": tmp_path / "other", "NOWHERE": tmp_path / "no", "TRAINED": trained}
    words = [str(places.get(word, word)) for word in arguments]
    if "--out" not in arguments:
        words += ["--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        typed(*words)
    shown = capsys.readouterr().err
    assert end.value.code == 2
    assert said in shown
    assert [line for line in shown.splitlines() if line.startswith("train: ")] == [
        shown.strip().splitlines()[-1]
    ]


def test_a_line_says_what_an_interrupted_run_goes_on_with(trained):
    options = train.configure(["--from", str(trained)])
    folder = train.RunFolder(trained, 3)
    said = train._standing(folder, options, "python -m experiments.train")
    assert said == (
        "interrupted; it goes on from step 13 of 13\nto go on: python -m experiments.train"
    )
