"""The laboratory in Python: the same bits as the command, errors as exceptions, resumable."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

from crossattn import lab
from crossattn.align.inputs import Answers
from crossattn.align.measures import MEASURES, Measure, UnknownMeasureError
from crossattn.lab import training
from crossattn.lab.errors import EXPECTED, LabError
from crossattn.lab.evaluation import Evaluation
from crossattn.report import document
from crossattn.train import ablation
from crossattn.train.folder import Folder
from crossattn.train.run import replace
from crossattn.train.trained import UnusableRunError
from experiments import ablate as command
from tests.support import driver
from tests.support.kept_programs import kept_programs

driver.install()
ROOT = Path(__file__).resolve().parents[2]
BASE = replace(driver.SUITE.base, {"steps": 13})
VARIANTS = {"words": {}, "blind": {"model.context_view": "none"}}


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """Programs are compiled once for all tests; figures take longer than all the rest."""
    folder = str(tmp_path_factory.mktemp("cache"))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jax.local_devices", driver.two_lanes)
        patch.setattr(document, "write_report", page)
        with kept_programs():
            yield folder
    jax.config.update("jax_compilation_cache_dir", before)


def page(results, out, *, command, **_):
    (out / "report.html").write_text(f"<p>{command}")
    return out / "report.md"


def mine(out, **options):
    return lab.ablate(VARIANTS, base=BASE, seeds=1, out=out, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Results, and what a function heard of the runs."""
    heard = []
    out = tmp_path_factory.mktemp("finished") / "mine"
    return mine(out, loggers=[heard.append]), heard


def test_results_show_themselves(finished):
    results, _ = finished
    assert (results.variants, results.seeds) == (["words", "blind"], [0])
    assert (results.baseline, results.primary) == ("words", "pairs/accuracy")
    assert 0 <= results.values("blind")[0] <= 1
    assert results.values("blind", "pointing/answer").size == 0
    for shown in (repr(results), repr(results.table()), results._repr_html_()):
        assert "FEW SEEDS" in shown
        assert "blind" in shown
    assert (
        "text-align: left; padding: 0.2rem 0.7rem'>blind</td>"
        in results.table("alignment")._repr_html_()
    )
    assert results.table("changes").rows[1][0] == "blind"
    assert isinstance(results.figure("learning"), Figure)
    assert results.figure("learning")._repr_png_()[1:4] == b"PNG"
    report = results.report()
    assert Path(report).name == "report.html"
    assert 'srcdoc="&lt;p&gt;lab.ablate({&#x27;words&#x27;' in report._repr_html_()
    assert repr(lab.open_results(results.folder)) == repr(results)


def test_measures_that_are_not_registered_are_left_out_and_told_of(finished, tmp_path, capsys):
    there = tmp_path / "mine"
    shutil.copytree(finished[0].folder, there)
    content = json.loads((there / "results.json").read_text())
    for run in content["runs"]:
        run["metrics"]["lift/consumed/layer0"] = 0.5
    content["counts"]["items"]["lift/consumed/layer0"] = 7
    (there / "results.json").write_text(json.dumps(content))
    results = lab.open_results(there)
    assert repr(results.table("alignment")) == repr(finished[0].table("alignment"))
    for name in ("main", "items", "comparisons"):
        results.table(name)
    (said,) = capsys.readouterr().err.splitlines()
    assert said == ("not shown: lift/consumed/layer0; import the module that registers the measure")
    assert results.values("words", "lift/consumed/layer0")[0] == 0.5
    content["primary"] = "lift/consumed/layer0"
    (there / "results.json").write_text(json.dumps(content))
    with pytest.raises(lab.LabError, match=r"primary .*: import the module that registers it$"):
        lab.open_results(there).table()
    assert UnknownMeasureError in EXPECTED  # so a command says it in one line


def test_a_measure_registered_later_is_noticed(finished, tmp_path, capsys, monkeypatch):
    there = tmp_path / "mine"
    shutil.copytree(finished[0].folder, there)
    late = Measure("late", "task", Answers, lambda answers: answers.right, "Late: a test.")
    other = Measure("other", "task", str, len, "Other: it reads what no run has.")
    monkeypatch.setitem(MEASURES, "late", late)
    monkeypatch.setitem(MEASURES, "other", other)
    mine(there)
    said = capsys.readouterr().err
    assert "late: registered after 2 runs were measured" in said
    assert "other" not in said
    assert str(there / "runs" / "*" / "seed*" / "metrics.json") in said


@pytest.mark.slow
def test_a_measure_registered_later_is_measured_without_training(
    finished, tmp_path, capsys, monkeypatch
):
    there = tmp_path / "mine"
    shutil.copytree(finished[0].folder, there)
    late = Measure("late", "task", Answers, lambda answers: answers.right, "Late: a test.")
    monkeypatch.setitem(MEASURES, "late", late)
    for path in there.glob("runs/*/seed*/metrics.json"):
        path.unlink()
    again = mine(there)
    assert "registered after" not in capsys.readouterr().err
    for variant in VARIANTS:
        assert again.values(variant, "iid/late") == again.values(variant, "iid/accuracy")


def test_a_function_hears_every_run(finished):
    heard = finished[1]
    for variant in VARIANTS:
        own = [record for record in heard if record["variant"] == variant]
        assert [record["step"] for record in own if "loss" in record] == [10]
        assert own[-1]["event"] == "measured"
        assert own[-1]["pairs/accuracy"] == finished[0].values(variant)[0]


def test_a_run_is_there_to_go_on_with(finished):
    run = finished[0].run("words")
    assert (run.variant, run.seed, run.settings) == ("words", 0, BASE)
    assert [line["step"] for line in run.log] == [10]
    assert "params" in run.params


def test_two_variants_are_compared(finished):
    results = finished[0]
    (known,) = results.content["comparisons"]
    found = lab.compare(results, "blind", "words")
    assert found.difference == known["difference"]
    assert (found.interval, found.winner) == (None, None)
    assert "blind minus words" in repr(found)
    other = lab.compare(results.folder, "words", "blind", metric="iid/accuracy")
    one, two = (results.values(name, "iid/accuracy")[0] for name in ("words", "blind"))
    assert other.difference == pytest.approx(one - two)


class Interrupting(training.Bar):
    """Somebody interrupts after step 7."""

    def __call__(self, label, step, metrics):
        super().__call__(label, step, metrics)
        if step == 7:
            raise KeyboardInterrupt


def test_a_folder_without_a_finished_run_says_how_to_go_on(tmp_path):
    Folder(tmp_path).claim(driver.SUITE)
    with pytest.raises(LabError, match="no run is finished and reported yet: the same call or"):
        lab.open_results(tmp_path)


@pytest.mark.slow
def test_call_and_command_go_on_with_each_other(finished, tmp_path, monkeypatch):
    out = tmp_path / "out"
    only = {"base": {"steps": 13}, "variants": ["cross-attention"], "seeds": 1, "out": out}
    with monkeypatch.context() as patch:
        patch.setattr(training, "Bar", Interrupting)
        with pytest.raises(KeyboardInterrupt) as end:
            lab.ablate("tiny", **only)
    assert str(end.value).startswith("interrupted; 0 of 1 runs are finished")
    assert str(end.value).endswith("the same call goes on")
    words = ["--steps", "13", "--variants", "cross-attention", "--seeds", "1"]
    command.main(["tiny", *words, "--out", str(out)])
    found = lab.open_results(out).run("cross-attention")
    assert found.metrics == finished[0].run("words").metrics
    events = map(json.loads, (found.folder / "log.jsonl").read_text().splitlines())
    assert [one["step"] for one in events if one.get("event") == "resume"] == [5]
    monkeypatch.setattr(ablation, "run_variant", lambda *_, **__: pytest.fail("trained again"))
    assert lab.ablate("tiny", **only).run("cross-attention").metrics == found.metrics


KILLED = """
import os, signal, sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
from tests.lab import test_calls
from crossattn.align.inputs import Answers
from crossattn.align.measures import MEASURES, Measure, UnknownMeasureError
from crossattn.lab import training
class Fatal(training.Bar):
    def __call__(self, label, step, metrics):
        super().__call__(label, step, metrics)
        if step == 12:
            os.kill(os.getpid(), signal.SIGKILL)
training.Bar = Fatal
test_calls.mine(sys.argv[2])
"""


@pytest.mark.slow
def test_killed_and_called_again_is_the_same(finished, here, tmp_path):
    out = str(tmp_path / "out")
    script = [sys.executable, "-c", KILLED, here, out]
    environment = {**os.environ, "PYTHONPATH": "."}
    run = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    done = subprocess.run(script, timeout=600, **run)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert mine(out).content["runs"] == finished[0].content["runs"]


@pytest.mark.slow
def test_a_run_predicts_what_was_measured(finished):
    run = finished[0].run("words")
    part = run.data.splits["iid"]
    rows = part.rows(np.flatnonzero(part.answer >= 0))
    places = np.arange(len(rows.answer)), rows.answer
    said = run.predict(rows).words[places] == rows.tokens[places]
    assert run.metrics["iid/accuracy"] == pytest.approx(said.mean())


@pytest.mark.slow
def test_evaluate_measures_what_was_measured(finished):
    run = finished[0].run("blind")
    found = lab.evaluate(run)
    assert {name: found.metrics[name] for name in run.metrics} == run.metrics
    assert "iid" in repr(found)
    assert found.table().rows


def test_evaluate_takes_the_checkpoint_that_is_named(finished, monkeypatch):
    steps = []

    def evaluated(run, on, out):
        steps.append(run.step)
        return Evaluation(run.folder, {}, [])

    monkeypatch.setattr("crossattn.lab.calls.evaluate_run", evaluated)
    folder = finished[0].run("blind").folder
    checkpoint = folder / "checkpoints" / "10"
    for named in (checkpoint, lab.LabRun(checkpoint), lab.LabRun(folder, 10)):
        lab.evaluate(named)
        lab.evaluate(named, mesh="data=-1")
        lab.evaluate(named, step=13)
    lab.evaluate(folder)
    assert steps == [10, 10, 13] * 3 + [None]


@pytest.mark.slow
def test_usage_measures_what_was_measured(finished, tmp_path):
    results = finished[0]
    found = lab.measure_usage(results.folder, ["words"], tmp_path / "usage")
    (run,) = found.content["runs"]
    for metric in ("pointing/answer", "knockout/truth", "knockout/random"):
        assert run["metrics"][metric] == results.values("words", metric)[0]
    rows = [row["variant"] for row in found.content["references"]]
    assert rows == ["untrained", "random attention"]
    assert -1 <= run["metrics"]["spearman/relevancy"] <= 1
    assert [row[0] for row in found.table().rows] == [*rows, "words"]
    assert (found.folder / "report.html").exists()
    with pytest.raises(LabError, match="blind does not attend to patches"):
        lab.measure_usage(results.folder, ["blind"], tmp_path / "usage")


@pytest.mark.slow
def test_one_model_is_trained_and_trained_on(tmp_path):
    settings = {"steps": 6, "batch_size": 10, "model.width": 8, "model.layers": 1}
    data = {"images": 100, "evaluation_images": 100}
    run = lab.train(settings, data=data, seed=3, out=tmp_path / "one")
    assert (run.seed, run.settings.model.width) == (3, 8)
    assert run.metrics["iid/accuracy"] >= 0
    again = lab.train(run.settings, seed=3, out=tmp_path / "one")
    assert again.metrics == run.metrics


def test_errors_of_results_name_what_there_is(finished, tmp_path):
    results = finished[0]
    for call, said in (
        (lambda: results.table("man"), "there is no table 'man': did you mean main?"),
        (lambda: results.figure("learn"), "there is no figure 'learn': did you mean learning?"),
        (lambda: results.run("blin"), "has no variant 'blin': did you mean blind?"),
        (lambda: results.run("blind", 4), "'blind' has no finished seed 4; there are 0"),
        (lambda: results.values("blind", "pairs/acuracy"), "did you mean pairs/accuracy?"),
        (
            lambda: lab.LabRun(results.folder),
            "holds a suite: add variant= (blind,",
        ),
        (lambda: lab.compare(results, "blind", "blind"), "cannot be compared with itself"),
        (
            lambda: lab.compare(results, "blind", "words", metric="pointing/answer"),
            "'blind' has no",
        ),
    ):
        with pytest.raises((lab.LabError, UnusableRunError)) as error:
            call()
        assert said in str(error.value)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="choose a new folder with out="):
        mine(tmp_path)
