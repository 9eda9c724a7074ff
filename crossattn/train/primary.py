"""By which metrics a suite can be judged on its data: known before anything is trained."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from crossattn.align.evidence import Evidence
from crossattn.align.inputs import (
    AttentionMaps,
    FeaturePairs,
    Knockouts,
    PermutedImages,
    RetrievalScores,
)
from crossattn.align.measures import Metric, UnknownMeasureError, find_metric, parse_metric
from crossattn.data.examples import Examples
from crossattn.spelling import nearest
from crossattn.train.evidence import (
    attention_evidence,
    attention_maps,
    chosen_place,
    task_inputs,
)
from crossattn.train.hidden_words import hidden_words
from crossattn.train.permuted_images import other_images
from crossattn.train.predictions import Look, Predictions
from crossattn.train.retrieval import SWAP_PLACES, compared, retrieval_inputs, true_features
from crossattn.train.run import replace
from crossattn.train.source import Dataset, batches_of
from crossattn.train.suite import COSTS, FINGERPRINT, Suite
from crossattn.train.texts import captions, questions

# Numbers of layers and heads in the names of metrics.
LAYER_OR_HEAD = re.compile(r"(/layer|/head)\d+")


def fit_to_data(suite: Suite, source: Dataset) -> Suite:
    """A suite as some data have it: their marks and notes; judged by captions if nothing is asked.

    Fitted runs are found stale when the data of a source that says its fingerprint have changed.
    """
    marked = {FINGERPRINT: source.fingerprint} if source.fingerprint else {}
    asked = any(len(questions(part)) for part in source.splits.values())
    return dataclasses.replace(
        suite,
        base=replace(suite.base, marked),
        notes=(*source.notes, *(note for note in suite.notes if note not in source.notes)),
        primary=suite.primary if asked else suite.without_questions or suite.primary,
        without_questions="",
    )


def check_source(suite: Suite, source: Dataset) -> None:
    """Find out before training what would otherwise fail after it.

    Raises:
      ValueError: the batches do not fit the data, or there is nothing to measure the suite by.
    """
    suite = fit_to_data(suite, source)
    batches_of(suite.base, source.train, 0)
    _check_claims(suite, source)
    split = suite.primary.split("/")[0]
    metric = find_metric(suite.primary)
    if metric and metric.measure.family == "attention":
        _check_pointing(suite, source)
        return
    if split not in (*source.splits, "caption", *SWAP_PLACES):
        raise ValueError(
            f"the primary metric {suite.primary} needs the split {split!r}; "
            f"data.source {suite.base.data.source} has {', '.join(source.splits)}"
        )
    judged = (source.splits["validation"], source.splits[source.main])
    if any(len(questions(part)) + len(captions(part)) == 0 for part in judged):
        raise ValueError("there are no questions and no captions to evaluate")
    _check_learned(suite, metric)
    known = measurable(source.splits, source.main, **learned_by(suite))
    if suite.primary in known:
        return
    if split in source.splits and split != "swap" and not len(questions(source.splits[split])):
        raise ValueError(
            f"there are no questions to evaluate by {suite.primary}: add question to data.tasks, "
            f"or take a suite of captions, whose primary metric is like {source.main}/perplexity"
        )
    raise ValueError(
        f"the primary metric {suite.primary} is not measured on these data: "
        f"choose one of {', '.join(sorted(known, key=_distance(suite.primary)))}"
    )


def learned_by(suite: Suite, variants: Iterable[str] = ()) -> dict[str, bool]:
    """What all variants, or some, learn as `measurable` takes it: to predict words, features."""
    runs = [suite.run(name) for name in variants or suite.variants]
    return {
        "words": all(run.loss.next_word > 0 for run in runs),
        "features": all(run.model.embedding > 0 for run in runs),
    }


def _check_learned(suite: Suite, metric: Metric | None) -> None:
    """Make sure that every variant learns what the primary metric is about."""
    if metric is None:
        return
    compares = metric.measure.reads in (RetrievalScores, FeaturePairs)
    compares |= metric.where in SWAP_PLACES
    runs = {name: suite.run(name) for name in suite.variants}
    if compares:
        lacking = [name for name, run in runs.items() if not run.model.embedding]
        what = "have features of images and texts: set model.embedding"
    else:
        lacking = [name for name, run in runs.items() if not run.loss.next_word]
        what = "predict words: set loss.next_word"
    if lacking:
        raise ValueError(
            f"the primary metric {suite.primary} is for variants that {what} of "
            f"{', '.join(lacking)}"
        )


def _check_claims(suite: Suite, source: Dataset) -> None:
    """Make sure that claims name metrics that there are: after training nobody could mend it."""
    costs = [f"cost/{name}" for name in COSTS]
    for better, worse, metric in (claim for claim in suite.claims if len(claim) == 3):
        if metric in costs:
            continue
        what = f"the claim {better!r} over {worse!r}"
        if metric.startswith("cost/"):
            raise ValueError(f"{what}: the costs of a run are {', '.join(costs)}, got {metric}")
        try:
            family = parse_metric(metric).measure.family
        except UnknownMeasureError as error:
            raise ValueError(f"{what}: {error}") from None
        if family == "task":
            learned = learned_by(suite, (better, worse))
            known = measurable(source.splits, source.main, **learned)
        elif family in ("attention", "causal"):
            known = attention_metrics(source.splits, source.main)
        else:
            continue
        if LAYER_OR_HEAD.sub(r"\g<1>0", metric) not in known:
            meant = nearest(metric, known)
            raise ValueError(f"{what}: {metric} is not measured of both on these data: {meant}")


def _distance(name: str) -> Callable[[str], float]:
    """How far another name is from this one: what was meant is said first."""
    return lambda other: -difflib.SequenceMatcher(None, name, other).ratio()


def _check_pointing(suite: Suite, source: Dataset) -> None:
    """Make sure that the data know where words point, and that every variant attends to patches."""
    known = located(source.splits, source.main)
    if suite.primary not in known:
        there = f"choose one of {', '.join(known)}" if known else "they know no regions of words"
        raise ValueError(
            f"the primary metric {suite.primary} is not measured on these data: {there}"
        )
    pooled = [name for name in suite.variants if not suite.run(name).model.attends]
    if pooled:
        raise ValueError(
            f"the primary metric {suite.primary} is for variants that attend to patches, "
            f"which {', '.join(pooled)} does not"
        )


def measurable(
    splits: Mapping[str, Examples], main: str, *, words: bool = True, features: bool = False
) -> list[str]:
    """Metrics of a task that every model has, whatever it attends to: those of the truth itself.

    Of models that predict `words`, and of such that have `features` of images and texts.
    """
    evidence = Evidence()
    for split, examples in splits.items():
        truth = Predictions(examples.tokens, np.zeros(len(examples)), None)
        write = lambda texts: texts.tokens
        inputs = task_inputs(split, examples, truth, write, main=main) if words else ()
        for where, arrays in inputs:
            evidence.read(where, arrays)
        if features and len(rows := compared(split, examples)):
            texts = examples.rows(rows)
            for where, arrays in retrieval_inputs(split, texts, true_features(texts)):
                if not isinstance(arrays, FeaturePairs):
                    evidence.read(where, arrays)
    return list(evidence.metrics)


def located(splits: Mapping[str, Examples], main: str) -> list[str]:
    """Metrics that models have which attend to patches: where the data know regions of words."""
    maps = [_true_maps(splits[split]) for split in ("validation", main)]
    evidence = Evidence()
    if chosen := chosen_place(*maps):
        place, name = chosen
        evidence.read(name, maps[1][place][0])
    return list(evidence.items)


def attention_metrics(splits: Mapping[str, Examples], main: str) -> list[str]:
    """Metrics of attention and of causal use that the data allow, of one layer, two heads."""
    looks = {split: _true_look(splits[split]) for split in ("validation", main)}
    evidence = attention_evidence(dict(splits), looks, main)
    if hidden := hidden_words(splits[main]):
        for condition in hidden.visible:
            evidence.read(condition, Knockouts(np.ones(len(hidden.words)), hidden.levels))
    if other := other_images(splits[main]):
        right = np.ones(len(other.rows))
        evidence.read("context", PermutedImages(right, right[:, None]))
    return list(evidence.metrics)


def _true_maps(examples: Examples) -> dict[str, list[AttentionMaps]]:
    return attention_maps(examples, _true_look(examples))


def _true_look(examples: Examples) -> Look:
    """Of a model that looks at the true regions and at nothing else."""
    regions = examples.regions()[None]
    ones = np.ones(regions.shape[:-1])
    return Look(regions, np.zeros((*ones.shape, 2), int), ones)
