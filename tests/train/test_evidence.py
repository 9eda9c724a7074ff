"""Evidence: knock-outs remove what they say, an all-knowing model gets full marks."""

import dataclasses

import numpy as np
import pytest

from crossattn.align import knockouts, pointing_chance, swap_scores
from crossattn.align.measures import MEASURES, parse_metric
from crossattn.data import scenes
from crossattn.data.scenes.language import VOCABULARY
from crossattn.train.evaluate import Evaluator
from crossattn.train.evidence import measure_model
from crossattn.train.predictions import Look, Predictions
from crossattn.train.primary import measurable
from crossattn.train.run import replace
from crossattn.train.step import model_of
from crossattn.train.texts import positions, score

SWAP_CHANCE = {name: MEASURES[name].chance for name in ("text", "image", "group")}
SPLITS = ("validation", "iid", "swap")


@pytest.fixture(scope="module")
def splits():
    return {name: scenes.examples(name, 100, seed=0) for name in SPLITS}


class Knowing(Evaluator):
    """Reads the answer off the data where it can see the region; else it errs."""

    def __init__(self, *, needs_sight=True, attends=True):
        self.needs_sight, self.attends, self.patches_seen = needs_sight, attends, True
        self.layers = 2

    def predict(self, params, examples, visible=None, *, attention=True):
        regions = examples.regions()
        words = examples.tokens.copy()
        if visible is not None and self.needs_sight:
            # It looks in its second layer alone.
            seen = np.broadcast_to(visible, (2, len(examples), regions.shape[-1]))[1]
            words[((regions > 0) & ~seen[:, None]).any(axis=-1)] = 0
        likelihood = -np.abs(regions.sum(axis=(1, 2)) - 1)
        # Attention of a position: the region of the word that follows, shifted aside if blind.
        maps = np.roll(regions, -1, axis=1)[:, :-1]
        if not self.attends:
            maps = np.where(maps > 0, 0, 1.0)
        maps = np.stack([np.zeros_like(maps), maps])
        # The first head peaks as the mean does, the second nowhere.
        peak = np.where(maps.any(-1), maps.argmax(-1), -1)
        look = Look(maps, np.stack([peak, np.full_like(peak, -1)], axis=-1), np.ones(peak.shape))
        return Predictions(words, likelihood, look)

    def write(self, params, examples):
        return examples.tokens


def test_an_all_knowing_model(splits):
    evidence = measure_model(Knowing(), None, splits, main="iid")
    metrics = evidence.metrics
    assert metrics["iid/accuracy"] == metrics["caption/exact"] == 1
    assert metrics["knockout/intact"] == metrics["knockout/random"] == metrics["knockout/rest"] == 1
    assert metrics["knockout/truth"] == 0
    assert metrics["pointing/answer"] == metrics["pointing/predicted/layer1"] == 1
    assert metrics["pointing/answer/layer0"] == 0
    assert [metrics[f"pointing/answer/layer1/head{head}"] for head in (0, 1)] == [1, 0]
    assert "image_mass/answer" not in metrics
    assert evidence.layer == 1
    assert evidence.chance["iid/accuracy/colour"] == 0.2
    assert evidence.chance["iid/accuracy"] == pytest.approx((0.2 + 0.2 + 0.5 + 0.25 + 0.5) / 5)
    assert 0.05 < evidence.chance["pointing/answer"] < 0.09
    assert set(evidence.items["iid/accuracy"]) == {1.0}
    # What was measured, counted: not what a setting asked for.
    counts = evidence.counts()
    iid = splits["iid"]
    assert counts["iid/accuracy"] == (iid.answer > 0).sum()
    kinds = [name for name in counts if name.startswith("iid/accuracy/")]
    assert sum(counts[name] for name in kinds) == counts["iid/accuracy"]
    assert counts["iid/accuracy/colour"] == (iid.kind == iid.kinds.index("colour")).sum()
    assert counts["swap/text"] == 50


def test_chance_of_swap_pairs_is_that_of_random_scores():
    """A reader of random scores knows 1/4, 1/4 and 1/6; one that ignores the image gets 0."""
    scores = np.random.default_rng(0).normal(size=(40_000, 2, 2))
    for name, values in swap_scores(scores).items():
        assert values.mean() == pytest.approx(SWAP_CHANCE[name], abs=0.01)
    text_only = np.repeat(scores[:, :, :1], 2, axis=2)
    assert not any(values.any() for values in swap_scores(text_only).values())


def test_swap_pairs_stand_beside_their_chance(splits):
    chance = measure_model(Knowing(), None, splits, main="iid").chance
    assert {name: chance[f"swap/{name}"] for name in SWAP_CHANCE} == SWAP_CHANCE
    assert SWAP_CHANCE == {"text": 1 / 4, "image": 1 / 4, "group": 1 / 6}


def test_knock_outs_in_single_layers(splits):
    metrics = measure_model(Knowing(), None, splits, main="iid", by_layer=True).metrics
    assert metrics["knockout/truth/layer0"] == 1
    assert metrics["knockout/truth/layer1"] == 0
    assert metrics["knockout/random/layer1"] == 1


def test_without_known_regions_only_answers_are_measured(splits):
    bare = {
        name: dataclasses.replace(part, grounded=np.zeros_like(part.grounded))
        for name, part in splits.items()
    }
    metrics = measure_model(Knowing(), None, bare, main="iid").metrics
    assert "iid/accuracy" in metrics
    assert not [name for name in metrics if name.startswith(("pointing", "mass", "knockout"))]


def test_attending_and_using_are_told_apart(splits):
    evidence = measure_model(Knowing(needs_sight=False, attends=False), None, splits, main="iid")
    assert evidence.metrics["pointing/answer"] == 0
    assert evidence.metrics["knockout/truth"] == 1


@pytest.fixture(scope="module")
def told():
    """Captions and nothing else."""
    return {name: scenes.examples(name, 100, seed=0, tasks=("caption",)) for name in CAPTIONED}


CAPTIONED = ("validation", "iid", "pairs", "swap")


class Recognising(Knowing):
    """Right where the text stands beside its own image, and wrong beside another."""

    def __init__(self, examples):
        super().__init__()
        self.own = {words.tobytes(): set() for words in examples.tokens}
        for words, image in zip(examples.tokens, examples.image, strict=True):
            self.own[words.tobytes()].add(image)

    def predict(self, params, examples, visible=None, *, attention=True):
        said = super().predict(params, examples, visible, attention=attention)
        rows = zip(examples.tokens, examples.image, strict=True)
        own = np.array([image in self.own.get(words.tobytes(), {image}) for words, image in rows])
        return said._replace(words=np.where(own[:, None], said.words, 0))


def test_the_image_of_another_example_takes_what_is_seen(splits, told):
    name = "perceptual_score/context"
    for parts in (splits, told):
        blind = measure_model(Knowing(), None, parts, main="iid")
        assert blind.metrics[name] == blind.chance[name] == 0
        seeing = measure_model(Recognising(parts["iid"]), None, parts, main="iid").metrics
        # Of 100 images one in 100 stays where it was; of texts of equal words several are right.
        assert 0.9 < seeing[name] < 1


def test_captions_alone_have_every_kind_of_evidence(told):
    evidence = measure_model(Knowing(), None, told, main="iid", by_layer=True)
    metrics, chance = evidence.metrics, evidence.chance
    assert not [name for name in metrics if name.endswith("accuracy") and "slot" not in name]
    assert metrics["caption/slot_accuracy"] == metrics["pairs/slot_accuracy"] == 1
    assert metrics["pointing/caption"] == metrics["pointing/predicted/layer1"] == 1
    assert evidence.layer == 1
    assert metrics["knockout/intact"] == metrics["knockout/random"] == metrics["knockout/rest"] == 1
    assert metrics["knockout/truth"] == metrics["knockout/truth/layer1"] == 0
    assert 1 / 6 < chance["knockout/truth"] < 0.3
    assert 1 / 6 < chance["pairs/slot_accuracy"] < 0.3
    # Between one of two words and one of the 6 + 6 + 3 that captions have.
    assert 2 < chance["iid/perplexity"] < 15
    assert set(measurable(told, "iid")) <= set(metrics)
    assert {name for name in metrics if "perplexity" in name} == {
        "iid/perplexity",
        "pairs/perplexity",
    }


def test_perplexity_is_that_of_a_word_the_end_included(told):
    part = told["iid"]
    words = part.target.sum(axis=1)
    assert all(part.words(row).endswith("<eos>") for row in range(3))
    assert words[0] == len(part.words(0).split()) - 2  # "<bos> describe" is given
    uniform = Predictions(part.tokens, -words * np.log(7.0), None)
    by, value = score(part, uniform)
    assert (by, round(value, 6)) == ("perplexity", 7)
    # A long caption counts more than a short one.
    uneven = Predictions(
        part.tokens, np.where(words == words.max(), 0.0, -words * np.log(7.0)), None
    )
    share = words[words < words.max()].sum() / words.sum()
    assert score(part, uneven)[1] == pytest.approx(7**share)


def test_what_can_be_measured_is_known_before(splits):
    known = measurable(splits, "iid")
    found = measure_model(Knowing(), None, splits, main="iid").metrics
    assert set(known) <= set(found)
    elsewhere = {name for name in found if parse_metric(name).measure.family != "task"}
    assert set(found) - set(known) == elsewhere


def test_knockouts_remove_equal_areas():
    random = np.random.default_rng(0)
    truth = random.random((53, 64)) < 0.1
    visible = knockouts(truth, random)
    np.testing.assert_array_equal(visible["truth"], ~truth)
    np.testing.assert_array_equal(visible["rest"], truth)
    hidden = ~visible["random"]
    np.testing.assert_array_equal(hidden.sum(1), truth.sum(1))
    assert not (hidden & truth).any()
    assert (hidden.mean(axis=0) > 0).all()


def test_positions_attend_before_they_predict(splits):
    examples = splits["iid"]
    found = positions(examples)
    rows, queries, words = found["answer"]
    np.testing.assert_array_equal(words, examples.answer[rows])
    np.testing.assert_array_equal(queries, words - 1)
    said = {examples.vocabulary[token] for token in examples.tokens[rows, words]}
    assert said <= {*VOCABULARY} - {"yes", "no", "one", "two", "three", "four"}
    rows, queries, words = found["consumed"]
    np.testing.assert_array_equal(queries, words)
    rows, queries, words = found["predicted"]
    assert {examples.kinds[kind] for kind in examples.kind[rows]} == {"caption"}
    region = examples.regions()[rows, words] >= examples.covered
    assert np.nanmean(pointing_chance(region)) < 0.1


def test_evaluator_fills_the_last_batch_and_writes(programs, run, examples):
    evaluator = Evaluator(programs.model)
    params = programs.create(0, _batch(run, examples)).params
    whole = evaluator.predict(params, examples)
    few = evaluator.predict(params, examples.rows(np.arange(131, 134)))
    assert whole.words.shape == examples.tokens.shape
    np.testing.assert_allclose(few.log_likelihood, whole.log_likelihood[131:134], atol=1e-5)
    np.testing.assert_allclose(few.look.attention, whole.look.attention[:, 131:134], atol=1e-6)
    assert evaluator.program._cache_size() == 1

    captions = examples.rows(np.flatnonzero(examples.answer == 0)[:5])
    written = evaluator.write(params, captions)
    # Each word is the model's own choice after its own words.
    again = evaluator.predict(params, dataclasses.replace(captions, tokens=written))
    np.testing.assert_array_equal(again.words[captions.target], written[captions.target])
    np.testing.assert_array_equal(written[~captions.target], captions.tokens[~captions.target])


def test_pooled_variants_have_no_map(run, examples):
    model = model_of(replace(run, {"model.context_view": "mean"}), len(examples.vocabulary))
    assert not Evaluator(model).patches_seen


def _batch(run, examples):
    from crossattn.train.source import batches_of

    return batches_of(run, examples, 0).batch(0)
