"""A run of a suite is evaluated: as the suite did, over a mesh, from a damaged checkpoint."""

import contextlib
import io
import json
import shutil

import jax
import pytest

from crossattn.sharding import make_mesh
from experiments import evaluate

pytestmark = pytest.mark.usefixtures("programs")


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


@pytest.mark.slow
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
