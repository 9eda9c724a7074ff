"""Explanations of trained models: maps against other code, planted use, names by design."""

import jax
import numpy as np
import pytest

from crossattn.align.evidence import Evidence
from crossattn.data import scenes
from crossattn.data.batches import Batch, gather
from crossattn.models.decoder_maps import decoder_maps, has_decoder_maps
from crossattn.models.interventions import maps_and_gradients
from crossattn.train.evaluate import Evaluator
from crossattn.train.explained import (
    AT_ONCE,
    Explainer,
    answers_of,
    explain_answers,
    parts_of,
)
from crossattn.train.predictions import Predictions
from crossattn.train.record import RunRecord, library_versions
from crossattn.train.run import replace
from crossattn.train.source import Dataset
from crossattn.train.step import inputs_of, model_of
from crossattn.train.trained import untrained_parameters


@pytest.fixture(scope="module")
def iid():
    return scenes.examples("iid", 100, seed=0)


class Uses(Evaluator):
    """P of the answer is a share of what it uses: the cells of `used` (N, P) that are visible."""

    def __init__(self, used):
        self.used = used

    def predict(self, params, examples, visible=None, *, attention=True):
        seen = np.broadcast_to(visible, self.used.shape)
        return Predictions(None, np.log(0.01 + (self.used * seen).sum(-1)), None)


class Shows(Explainer):
    """Maps that are given."""

    def __init__(self, **maps):
        self.maps = maps

    def saliency(self, params, answered):
        return dict(self.maps)


def test_agreement_is_that_of_what_was_planted(iid):
    """What a model uses is found, and attention that looks elsewhere is not taken for it."""
    answered = answers_of(iid)
    count, rng = len(answered.queries), np.random.default_rng(0)
    used = rng.dirichlet(np.full(64, 0.1), count)
    aside = rng.dirichlet(np.full(64, 0.1), count)
    heads = np.stack([np.stack([aside, used], 1), np.stack([aside, aside], 1)], 1)
    explainer = Shows(heads=heads, grad_cam=np.stack([aside, used], 1), relevancy=used)
    evidence = Evidence()
    for name, one in explain_answers(Uses(used), explainer, None, answered, layer=1, seed=0):
        evidence.read(name, one)
    found = evidence.metrics
    for name in ("relevancy", "grad_cam", "attention/layer0/head1"):
        assert found[f"spearman/{name}"] > 0.99
    for name in ("attention", "random", "attention/layer1/head0"):
        assert abs(found[f"spearman/{name}"]) < 0.15
        assert evidence.chance[f"kendall/{name}"] == 0
    assert found["deletion/relevancy"] < 0.5 * found["deletion/random"]
    assert found["insertion/relevancy"] > found["insertion/random"] + 0.1
    assert "deletion/attention/layer0/head1" not in found


@pytest.mark.slow
def test_maps_and_gradients_are_those_of_interventions(programs, run, examples):
    params = untrained(run, examples)
    score = lambda logits: jax.nn.log_softmax(logits)[:, -1, 3]

    @jax.jit
    def both(batch):
        place = programs.model, params, inputs_of(batch), score
        return decoder_maps(*place), maps_and_gradients(*place)

    found, (maps, gradients) = both(Batch(**gather(examples, np.arange(5))))
    np.testing.assert_allclose(found.context, maps, atol=1e-6)
    np.testing.assert_allclose(found.context_gradients, gradients, atol=1e-6)
    assert found.words.shape == found.words_gradients.shape
    np.testing.assert_allclose(found.words.sum(-1), 1, atol=1e-5)
    # Of words as well: no word is explained by one that follows.
    ahead = np.triu(np.ones(found.words.shape[-2:], bool), 1)
    assert not np.asarray(found.words)[..., ahead].any()
    assert np.abs(np.asarray(found.words_gradients)).max() > 0


def untrained(run, examples):
    """Parameters of a run before its first step."""
    record = RunRecord("tiny", "plain", 0, run, library_versions())
    return untrained_parameters(record, Dataset(examples, {"test": examples}, main="test"))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, {"heads", "grad_cam", "relevancy", "rollout"}),
        pytest.param({"model.preset": "flamingo"}, {"heads", "grad_cam"}, marks=pytest.mark.slow),
        pytest.param({"model.connector": "perceiver_encode"}, {"heads"}, marks=pytest.mark.slow),
    ],
)
def test_what_follows_all_layers_is_there_for_plain_decoders(run, examples, iid, changes, names):
    answered = answers_of(iid, AT_ONCE + 3)
    own = replace(run, changes)
    explainer = Explainer(model_of(own, len(examples.vocabulary)))
    found = explainer.saliency(untrained(own, examples), answered)
    assert set(found) == names
    assert has_decoder_maps(own.model) == ("rollout" in names)
    assert found["heads"].shape == (AT_ONCE + 3, 1, 2, 64)
    np.testing.assert_allclose(found["heads"].sum(-1), 1, atol=1e-5)
    if "rollout" in names:
        # One layer: half of a word is itself, and the other half the patches.
        np.testing.assert_allclose(found["rollout"].sum(-1), 0.5, atol=1e-5)
        np.testing.assert_allclose(found["rollout"], found["heads"][:, 0].mean(1) / 2, atol=1e-6)
        # One layer, too: what a word reads itself, and what the words before it would.
        assert (found["relevancy"] >= found["grad_cam"][:, 0] - 1e-6).all()


def test_parts_and_answers(iid):
    assert (
        parts_of(iid).tolist()
        == np.kron(np.arange(16).reshape(4, 4), np.ones((2, 2))).ravel().tolist()
    )
    told = scenes.examples("iid", 100, seed=0, tasks=("caption",))
    assert answers_of(told) is None
