"""Contrast and matching: one device and eight, refusals, and what is measured of features."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.align import contrastive_loss, retrieval_accuracy
from crossattn.align.evidence import Evidence
from crossattn.data import scenes
from crossattn.models.joint_space import JointFeatures
from crossattn.sharding import make_mesh, partition, place_batch
from crossattn.sharding.wire import collectives
from crossattn.train import retrieval
from crossattn.train import step as steps
from crossattn.train.comparison import captioned, comparing_terms, last_words
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import measure_model
from crossattn.train.log import curve
from crossattn.train.losses import Losses
from crossattn.train.outcome import curves_of
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.primary import check_source, measurable
from crossattn.train.retrieval import recall, retrieval_inputs, true_features
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import Dataset, batches_of
from crossattn.train.suite import Suite
from crossattn.train.utilization import model_flops

D = 6
DUAL = Run(
    data=Data(images=100, evaluation_images=100, tasks=("caption",), texts_per_image=1),
    model=Model(width=8, layers=1, heads=2, latents=3, context_view="none", embedding=D),
    loss=Losses(next_word=0.0, contrastive=1.0),
    steps=4,
    batch_size=16,
    checkpoint_every=4,
)
COCA = {
    "model.preset": "coca_decoder",
    "model.context_view": "tokens",
    "model.layers": 2,
    "loss.next_word": 1.0,
    "loss.matching": 1.0,
}


@pytest.fixture(scope="module")
def told():
    """Captions of scenes, by split."""
    splits = ("train", "validation", "iid", "swap")
    return {name: scenes.examples(name, 100, seed=0, tasks=("caption",)) for name in splits}


def test_the_last_word_stands_before_the_end(told):
    batch = batches_of(DUAL, told["train"], 0).batch(0)
    places, words = np.asarray(last_words(batch)), told["train"].vocabulary
    after = [words[token] for token in batch.tokens[np.arange(16), places + 1]]
    assert after == ["<eos>"] * 16
    assert words.index("<pad>") not in batch.tokens[np.arange(16), places]


def gradient(run, batch, vocabulary, layout=None):
    """The program of the loss and its gradient, and parameters at which all of it counts."""
    model = steps.model_of(run, vocabulary, layout=layout)
    init = functools.partial(steps.initial_state, model, _NoOptimizer())
    params = jax.jit(init)(0, batch).params
    objective = functools.partial(steps.objective, model, terms=run.loss, key=jax.random.key(3))
    return jax.value_and_grad(objective, has_aux=True), params


class _NoOptimizer:
    """There is no step."""

    def init(self, params):
        return ()


# A batch of two texts of an image, of which one is a question.
MIXED = {"data.tasks": ("question", "caption"), "data.texts_per_image": 2}
CASES = [
    pytest.param("data=8", {}, id="data"),
    pytest.param("data=2,fsdp=2,tensor=2", {}, marks=pytest.mark.slow, id="all axes"),
    pytest.param("data=2,fsdp=2,tensor=2", {**COCA, **MIXED}, marks=pytest.mark.slow, id="coca"),
    pytest.param("data=4,context=2", COCA, marks=pytest.mark.slow, id="coca, context"),
]


@pytest.mark.parametrize(("axes", "changes"), CASES)
def test_contrast_over_all_devices_is_that_of_one(told, examples, axes, changes):
    run = replace(DUAL, changes)
    train = examples if "data.tasks" in changes else told["train"]
    batch = batches_of(run, train, 0).batch(0)
    f, params = gradient(run, batch, len(train.vocabulary))
    (loss, metrics), one = jax.jit(f)(params, batch)
    # What is said of words is said where they are learned.
    assert ({"accuracy", "loss/next_word"} & set(metrics) != set()) == (run.loss.next_word > 0)

    parallel = Parallelism(make_mesh(axes, devices=jax.devices()[:8]))
    places = partition(params, parallel.mesh, parallel.rules).shardings
    f, _ = gradient(run, batch, len(train.vocabulary), parallel.layout(run))
    program = jax.jit(f, out_shardings=(None, places))
    with jax.set_mesh(parallel.mesh):
        given = jax.device_put(params, places), place_batch(batch, parallel.mesh)
        compiled = program.lower(*given).compile()
        (over_all, found), many = compiled(*given)
    np.testing.assert_allclose(over_all, loss, rtol=1e-5)
    for name, value in metrics.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), many, one)
    if axes == "data=8":
        check_traffic(compiled.as_text(), batch, one)


def check_traffic(program, batch, gradients):
    """Features are gathered, and gradients summed, once each."""
    features = 4 * len(batch.tokens) * D
    sent = collectives(program)
    gathered = [one.bytes for one in sent if one.kind == "all-gather"]
    words = batch.tokens.astype(np.int32).nbytes
    assert gathered, "features were not compared over devices"
    assert max(gathered) <= max(features, words)
    assert not {one.kind for one in sent} - {"all-gather", "all-reduce", "reduce-scatter"}
    # All sums together are those of the gradients, once, and of a few numbers a row.
    summed = sum(one.bytes * one.times for one in sent if one.kind != "all-gather")
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(gradients) if leaf.any())
    assert parameters <= summed < 1.25 * parameters


def test_words_that_are_not_learned_have_no_curve(tmp_path):
    learned = {"step": 10, "loss": 2.0, "loss/contrastive": 2.0, "time": 1.0}
    stopped = {"step": 12, "event": "non-finite", "loss": "nan", "accuracy": "nan", "time": 2.0}
    (tmp_path / "log.jsonl").write_text(f"{json.dumps(learned)}\n{json.dumps(stopped)}\n")
    assert curve(tmp_path / "log.jsonl") == [learned]
    assert curves_of([learned]) == {"step": [10], "loss": [2.0], "loss/contrastive": [2.0]}


@pytest.mark.slow
def test_the_arithmetic_of_contrast_is_counted(told):
    """That of the images as well, which a dual encoder's words do not read."""
    batch, words = batches_of(DUAL, told["train"], 0).batch(0), len(told["train"].vocabulary)
    plain = {"model.embedding": 0, "loss.next_word": 1.0, "loss.contrastive": 0.0}
    alone = model_flops(replace(DUAL, plain), words, batch)
    images = 16 * 64
    # Keys and values of every patch, forward and both gradients.
    assert model_flops(DUAL, words, batch) > alone + 3 * 2 * images * 2 * 8 * 8


def test_what_does_not_go_together_is_refused():
    for changes, said in (
        ({"model.embedding": 0}, "loss.contrastive compares features .* set model.embedding"),
        ({"loss.matching": 1.0}, "loss.matching is about words that have read the image"),
        ({"data.tasks": ("question",)}, "add caption to data.tasks"),
        ({"pretrain_text_steps": 2}, "pretrain_text_steps hides the images"),
        ({"loss.contrastive": -1.0}, "loss.contrastive cannot be negative"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(DUAL, changes)
    with pytest.raises(ParallelismError, match="all captions of a batch, which --accumulate 2"):
        Parallelism(accumulate=2).check(DUAL)


def test_a_suite_is_judged_by_what_its_variants_learn(told):
    data = Dataset(told["train"], {n: told[n] for n in ("validation", "iid", "swap")}, main="iid")
    suite = Suite(
        "two", "-", DUAL, {"dual": {}, "coca": COCA}, "dual", "iid/text_to_image_r1", (),
    )  # fmt: skip
    for primary in ("iid/text_to_image_r1", "swap_similarity/group"):
        check_source(dataclasses.replace(suite, primary=primary), data)
    with pytest.raises(ValueError, match=r"variants that predict words: .* of dual"):
        check_source(dataclasses.replace(suite, primary="iid/perplexity"), data)
    plain = {"model.embedding": 0, "loss.contrastive": 0.0, "loss.matching": 0.0}
    plain = dataclasses.replace(suite, variants={"dual": {}, "plain": {**COCA, **plain}})
    with pytest.raises(ValueError, match=r"features of images and texts: .* of plain"):
        check_source(plain, data)


def read(split, texts, features):
    evidence = Evidence()
    for where, arrays in retrieval_inputs(split, texts, features):
        evidence.read(where, arrays)
    return evidence


def test_planted_features_are_called_what_they_are(told):
    texts = told["iid"]
    truth = read("iid", texts, true_features(texts))
    levels = truth.chance
    for way in ("image_to_text", "text_to_image"):
        assert {truth.metrics[f"iid/{way}_r{k}"] for k in (1, 5, 10)} == {1}
        # A scene more that is told alike raises chance a little.
        assert 0.01 <= levels[f"iid/{way}_r1"] < 0.012
    assert truth.metrics["modality_gap/iid"] == truth.metrics["feature_alignment/iid"] == 0
    assert recall(texts, true_features(texts)) == 1
    rng = np.random.default_rng(0)
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    image, text = unit(rng.normal(size=(100, 30))), unit(rng.normal(size=(100, 30)))
    found = read("iid", texts, JointFeatures(image, text, None))
    for name in ("modality_gap", "feature_alignment", "uniformity_image", "uniformity_text"):
        level = found.chance[f"{name}/iid"]
        np.testing.assert_allclose(found.metrics[f"{name}/iid"], level, rtol=0.2)
    assert abs(found.metrics["cka/iid"]) < 0.1
    assert found.metrics["iid/text_to_image_r1"] < 0.1
    # Far apart as two clouds are, and still each nearest to its own.
    shift = np.zeros(30)
    shift[0] = 3
    moved = read("iid", texts, JointFeatures(unit(image + shift), unit(image - shift), None))
    assert moved.metrics["modality_gap/iid"] > 1.5


def test_large_galleries_are_searched_by_folds_too(told, monkeypatch):
    monkeypatch.setattr(retrieval, "FOLD", 25)
    texts = told["iid"]
    rng = np.random.default_rng(1)
    image, text = rng.normal(size=(2, 100, 8))
    found = read("iid", texts, JointFeatures(image, text, None))
    for way, k in itertools.product(("image_to_text", "text_to_image"), (1, 5, 10)):
        hits = []
        for rows in np.arange(100).reshape(4, 25):
            own = texts.rows(rows)
            alone = read("iid", own, JointFeatures(image[rows], text[rows], None))
            hits.append(alone.metrics[f"iid/{way}_r{k}"])
        np.testing.assert_allclose(found.metrics[f"iid/{way}_r{k}_1k"], np.mean(hits), rtol=1e-6)
        assert found.metrics[f"iid/{way}_r{k}"] < found.metrics[f"iid/{way}_r{k}_1k"]
        assert found.chance[f"iid/{way}_r{k}_1k"] > 3 * found.chance[f"iid/{way}_r{k}"]
    few = read("iid", texts.rows(np.arange(99)), JointFeatures(image[:99], text[:99], None))
    assert not any(name.endswith("_1k") for name in few.metrics)


def test_swap_pairs_by_similarity_and_by_matching(told):
    """A bag of words knows no pair; what binds colours to shapes knows all."""
    swap = told["swap"]
    words = np.eye(len(swap.vocabulary))[swap.tokens].sum(axis=1)
    own = np.repeat(words[::4], 4, axis=0)  # images, by the words that name their objects
    bag = read("swap", swap, JointFeatures(own, words, None))
    assert bag.metrics["swap_similarity/group"] == 0
    pair = np.arange(len(swap)) % 4
    match = np.isin(pair, (0, 3)) * 2.0 - 1
    bound = read("swap", swap, JointFeatures(own, words, None, match))
    assert bound.metrics["swap_matching/group"] == 1
    assert bound.chance["swap_matching/group"] == pytest.approx(1 / 6)


@pytest.mark.slow
def test_a_model_is_measured_by_what_it_has_learnt(told):
    splits = {name: told[name] for name in ("validation", "iid", "swap")}
    model = steps.model_of(DUAL, len(told["iid"].vocabulary))
    batch = batches_of(DUAL, told["train"], 0).batch(0)
    params = jax.jit(functools.partial(steps.initial_state, model, _NoOptimizer()))(0, batch).params
    found = measure_model(Evaluator(model), params, splits, main="iid", learned=DUAL.loss).metrics
    known = measurable(splits, "iid", words=False, features=True)
    assert set(known) <= set(found)
    assert {name for name in found if "/" in name} - set(known) == {
        f"{name}/iid"
        for name in (
            "modality_gap", "feature_alignment", "uniformity_image", "uniformity_text", "cka",
        )
    }  # fmt: skip
    assert 0 <= found["iid/text_to_image_r1"] < 0.2


@pytest.fixture
def mixed(examples):
    """A batch of captions and questions in turns, one of each to an image, and features of it."""
    batch = jax.tree.map(jnp.asarray, batches_of(replace(DUAL, MIXED), examples, 0).batch(0))
    rng = np.random.default_rng(1)
    unit = lambda n: (x := rng.normal(size=(n, D))) / np.linalg.norm(x, axis=1, keepdims=True)
    image, text = (jnp.asarray(unit(n), jnp.float32) for n in (8, 16))
    match = jnp.asarray(rng.normal(size=16), jnp.float32)
    return batch, JointFeatures(image, text, jnp.float32(2.0), match)


def test_questions_are_compared_with_nothing(mixed, examples):
    batch, features = mixed
    asked = np.asarray(captioned(batch))
    words = examples.vocabulary
    assert [words[row[1]] == "describe" for row in np.asarray(batch.tokens)] == asked.tolist()
    assert asked.sum() == 8
    terms, key = Losses(contrastive=1.0), jax.random.key(0)
    found, metrics = comparing_terms(terms, features, batch, lambda other: other, key)
    # The caption of each image, wherever it stands.
    rows = np.flatnonzero(asked)
    assert (rows // 2 == np.arange(8)).all()
    want = contrastive_loss(features.image, features.text[rows], features.scale)
    np.testing.assert_allclose(found["contrastive"], want, rtol=1e-6)
    want = retrieval_accuracy(features.image, features.text[rows])
    np.testing.assert_allclose(metrics["retrieved"], want)


def test_negatives_are_wrong_captions_and_wrong_images(mixed):
    batch, features = mixed
    seen = []

    def match(other):
        seen.append(other)
        return jnp.zeros(other.tokens.shape[0])

    terms = Losses(contrastive=1.0, matching=1.0)
    found, _ = comparing_terms(terms, features, batch, match, jax.random.key(5))
    (wrong,) = seen
    assert wrong.tokens.shape[0] == wrong.images.shape[0] == 16 + 8
    own = {(image.tobytes(), tuple(text)) for image, text in _pairs(batch, 2)}
    captions = {tuple(row) for row in np.asarray(batch.tokens)[np.asarray(captioned(batch))]}
    for place, (image, text) in enumerate(_pairs(wrong, 1)):
        asked = tuple(text) not in captions
        # A question stays what it is, beside any image, and does not count.
        assert asked or (image.tobytes(), tuple(text)) not in own
        assert not (asked and place >= 16), "a question is no wrong caption"
    # Of right pairs the logits are those of the features, of wrong ones 0: log 2 each.
    logits = features.match[np.flatnonzero(np.asarray(captioned(batch)))]
    want = (jax.nn.softplus(-logits).sum() + (8 + 8) * np.log(2)) / 24
    np.testing.assert_allclose(found["matching"], want, rtol=1e-5)


def _pairs(batch, texts):
    """Each text and the image that it stands beside."""
    images = np.asarray(batch.images).repeat(texts, axis=0)
    return zip(images, np.asarray(batch.tokens).tolist(), strict=True)
