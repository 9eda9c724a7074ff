"""Reports while a suite runs: after each variant but the last, whatever becomes of them."""

import jax
import pytest

from configs import fusion
from crossattn.lab import training
from crossattn.lab.request import Request
from crossattn.launch.devices import left_to_run
from crossattn.train import ablation
from crossattn.train.ablation import run_order
from crossattn.train.folder import Folder
from crossattn.train.parallel import Parallelism
from crossattn.train.source import Dataset


@pytest.fixture
def ran(monkeypatch):
    """Variants in the order in which they were run; nothing is trained."""
    ran = []
    run_variant = lambda suite, variant, *_, **__: ran.append(variant)
    monkeypatch.setattr(ablation, "run_variant", run_variant)
    one = jax.devices()[:1]
    monkeypatch.setattr("crossattn.launch.lanes.jax.local_devices", lambda: one)
    return ran


def test_the_baseline_comes_first_then_what_claims_are_about(tmp_path):
    todo = left_to_run(fusion.SUITE, Folder(tmp_path), 2)
    assert [variant for variant, _ in todo] == run_order(fusion.SUITE)
    assert run_order(fusion.SUITE)[:4] == ["cross-attention", "mean-pool", "blind", "resampler"]
    assert {*run_order(fusion.SUITE)} == {*fusion.SUITE.variants}
    assert all(seeds == [0, 1] for _, seeds in todo)


def train(tmp_path, variants, finished):
    suite, folder = fusion.SUITE.only(variants), Folder(tmp_path)
    todo = left_to_run(suite, folder, 1)
    request = Request("ablate", "ablate", suite, suite, folder)
    nothing = object.__new__(Dataset)  # is looked into by nobody
    training.train_all(request, todo, nothing, Parallelism(), finished)


def test_a_report_after_each_variant_but_the_last(ran, tmp_path):
    reported = []
    train(tmp_path, ("blind", "mean-pool"), lambda notify: reported.append([*ran]))
    assert ran == ["cross-attention", "mean-pool", "blind"]
    assert reported == [ran[:1], ran[:2]]


def test_a_report_that_fails_is_told_and_ends_nothing(ran, tmp_path, capsys):
    def fail(notify):
        raise OSError("no space left")

    train(tmp_path, ("blind",), fail)
    assert ran == ["cross-attention", "blind"]
    assert "ablate: no report yet: OSError: no space left" in capsys.readouterr().err
