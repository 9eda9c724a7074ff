"""What a suite may be judged by is known before it is trained."""

import dataclasses

import numpy as np
import pytest

from crossattn.train.primary import check_source
from crossattn.train.run import Data, Run
from crossattn.train.source import load_dataset
from crossattn.train.suite import Suite

ATTENDS = {"a": {}, "b": {"model.preset": "prefix_lm"}}
BLIND = {"a": {}, "c": {"model.context_view": "none"}}
QUESTIONS, CAPTIONS = ("question", "caption"), ("caption",)


@pytest.fixture(scope="module")
def sources():
    runs = {
        tasks: Run(data=Data(images=100, evaluation_images=100, tasks=tasks))
        for tasks in (QUESTIONS, CAPTIONS)
    }
    return {tasks: (run, load_dataset(run)) for tasks, run in runs.items()}


def made(run, primary, variants):
    return Suite("s", "t", run, variants, "a", primary)


@pytest.mark.parametrize(
    ("tasks", "primary", "variants"),
    [
        (QUESTIONS, "pairs/accuracy", BLIND),
        (QUESTIONS, "iid/accuracy/colour", BLIND),
        (QUESTIONS, "iid/perplexity", BLIND),
        (QUESTIONS, "swap/group", BLIND),
        (QUESTIONS, "pointing/answer", ATTENDS),
        (CAPTIONS, "pairs/perplexity", BLIND),
        (CAPTIONS, "pairs/slot_accuracy", BLIND),
        (CAPTIONS, "caption/slot_accuracy", BLIND),
        (CAPTIONS, "pointing/caption", ATTENDS),
        (CAPTIONS, "mass/caption", ATTENDS),
    ],
)
def test_what_every_variant_has_may_name_winners(tasks, primary, variants, sources):
    run, source = sources[tasks]
    check_source(made(run, primary, variants), source)


@pytest.mark.parametrize(
    ("tasks", "primary", "variants", "message"),
    [
        (QUESTIONS, "iid/acuracy", BLIND, "iid/acuracy is not measured on these data: choose one"),
        (QUESTIONS, "validation/accuracy", BLIND, "is not measured on these data"),
        (QUESTIONS, "pairs/perplexity", BLIND, "is not measured on these data"),
        (QUESTIONS, "pears/accuracy", BLIND, "needs the split 'pears'"),
        (QUESTIONS, "pointing/caption", ATTENDS, "choose one of pointing/answer, mass/answer"),
        (CAPTIONS, "iid/accuracy", BLIND, "no questions to evaluate by iid/accuracy: .*perplexity"),
        (CAPTIONS, "pointing/answer", ATTENDS, "choose one of pointing/caption, mass/caption"),
        (CAPTIONS, "pointing/caption", BLIND, "for variants that attend to patches, which c does"),
    ],
)
def test_what_is_not_measured_is_said_before_training(tasks, primary, variants, message, sources):
    run, source = sources[tasks]
    with pytest.raises(ValueError, match=message):
        check_source(made(run, primary, variants), source)


def test_without_regions_nothing_is_pointed_at(sources):
    run, source = sources[CAPTIONS]
    bare = {
        name: dataclasses.replace(part, grounded=np.zeros_like(part.grounded))
        for name, part in source.splits.items()
    }
    with pytest.raises(ValueError, match="they know no regions of words"):
        check_source(
            made(run, "pointing/caption", ATTENDS), dataclasses.replace(source, splits=bare)
        )


def test_claims_may_be_about_what_is_measured(sources):
    run, source = sources[QUESTIONS]
    names = ["iid/accuracy/colour", "swap/group", "mass/answer", "knockout/truth"]
    names += ["perceptual_score/context"]
    names += ["pointing/consumed/layer1/head3", "mass/predicted/layer0"]
    claims = [("a", "c", name) for name in names]
    claims += [("c", "a", "cost/step_seconds"), ("a", "c", "pairs/accuracy"), ("a", "c")]
    suite = made(run, "pairs/accuracy", BLIND)
    check_source(dataclasses.replace(suite, claims=tuple(claims)), source)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("pointng/answer", "pointng/answer is no metric .*did you mean pointing/answer"),
        ("cost/seconds", "the costs of a run are cost/step_seconds, cost/parameters, got cost/sec"),
        ("pointing/captoin", "pointing/captoin is not measured of both .*did you mean pointing/"),
        ("pointing/consumed", "pointing/consumed is not measured of both"),  # of layers alone
        ("knockout/trth", "knockout/trth is not measured of both .*did you mean knockout/truth"),
        ("spearman/attention", "spearman/attention is not measured of both"),  # of `usage` alone
        (
            "pears/accuracy",
            "pears/accuracy is not measured of both on these data: did you mean pairs/acc",
        ),
    ],
)
def test_claims_about_what_nobody_measures_are_refused_before_training(metric, message, sources):
    run, source = sources[QUESTIONS]
    suite = dataclasses.replace(made(run, "pairs/accuracy", BLIND), claims=(("a", "c", metric),))
    with pytest.raises(ValueError, match=f"^the claim 'a' over 'c': {message}"):
        check_source(suite, source)


def test_a_claim_is_about_what_both_of_its_variants_learn(sources):
    run, source = sources[QUESTIONS]
    features = {"model.embedding": 8, "loss.next_word": 0.0, "loss.contrastive": 1.0}
    variants = {**BLIND, "d": {**BLIND["c"], **features}}
    suite = made(run, "pairs/accuracy", variants)
    claim = ("c", "d", "pairs/accuracy")
    message = "'c' over 'd': pairs/accuracy is not measured of both on these data"
    with pytest.raises(ValueError, match=message):
        check_source(dataclasses.replace(suite, claims=(claim,)), source)
