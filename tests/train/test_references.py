"""Reference rows: an untrained model and random attention are at chance."""

import json

import numpy as np
import pytest

from crossattn.align.measures import find_metric
from crossattn.data import scenes
from crossattn.train.evaluate import Evaluator
from crossattn.train.predictions import Look
from crossattn.train.references import (
    FILE,
    RANDOM,
    UNTRAINED,
    measure_references,
    random_look,
    read_references,
)
from crossattn.train.source import batches_of


@pytest.fixture(scope="module")
def found(programs, run, examples):
    splits = {name: scenes.examples(name, 100, seed=0) for name in ("validation", "iid")}
    params = programs.create(0, batches_of(run, examples, 0).batch(0)).params
    rows = measure_references(Evaluator(programs.model), params, splits, main="iid", seed=0)
    regions = splits["iid"].regions()
    return rows, float(regions[regions.any(-1)].mean())


def test_reference_rows_are_at_chance(found):
    rows, covered = found
    assert list(rows) == [UNTRAINED, RANDOM]
    random = rows[RANDOM]
    # Consumed words are about 300: two standard errors of pointing are 0.03.
    assert random["pointing/consumed/layer0"] == pytest.approx(0.07, abs=0.05)
    assert random["mass/consumed/layer0"] == pytest.approx(covered, abs=0.02)
    assert not any(name.startswith("knockout") for name in random)
    untrained = rows[UNTRAINED]
    assert abs(untrained["knockout/truth"] - untrained["knockout/random"]) < 0.1
    assert {find_metric(name).measure.family for name in untrained} == {"attention", "causal"}


def test_random_attention_is_random_for_each_head(examples):
    look = Look(np.zeros((2, 300, 3, 16)), np.zeros((2, 300, 3, 4), np.int16), np.ones((2, 300, 3)))
    drawn = random_look(look, np.random.default_rng(0), examples)
    again = random_look(look, np.random.default_rng(0), examples)
    np.testing.assert_array_equal(again.peak, drawn.peak)
    np.testing.assert_allclose(drawn.attention.sum(-1), 1)
    assert drawn.peak.shape == look.peak.shape
    np.testing.assert_allclose(np.bincount(drawn.peak.ravel()) / drawn.peak.size, 1 / 16, atol=0.01)


def test_folders_of_earlier_versions_have_none(tmp_path):
    assert read_references(tmp_path) == {}
    (tmp_path / FILE).write_text("[1")
    assert read_references(tmp_path) == {}
    (tmp_path / FILE).write_text(json.dumps({"untrained": {"mass/answer": 0.1}}))
    assert read_references(tmp_path) == {"untrained": {"mass/answer": 0.1}}
