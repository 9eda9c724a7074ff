"""The terms of a run's loss: what they are of, on one device and on many, and old folders."""

import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.align import mass_in_region, normalized_entropy
from crossattn.data import scenes
from crossattn.fields import flat
from crossattn.sharding import make_mesh
from crossattn.train.evaluate import Evaluator
from crossattn.train.former import with_late_fields
from crossattn.train.loop import TrainPrograms
from crossattn.train.losses import MAP_TERMS, Losses
from crossattn.train.parallel import SINGLE_DEVICE, Parallelism
from crossattn.train.record import (
    RecordError,
    RunRecord,
    library_versions,
    read_record,
    write_record,
)
from crossattn.train.run import Data, Model, Optimizer, Run, replace
from crossattn.train.source import batches_of
from crossattn.train.stale import find_stale
from crossattn.train.step import objective
from crossattn.train.suite import Suite

# Sources with settings of their own that came later.
OTHERS = ("folder", "refcoco")


def test_what_was_written_before_has_the_default_loss(tmp_path):
    run, path = Run(steps=7), tmp_path / "runs" / "plain" / "seed0"
    write_record(path, RunRecord("mine", "plain", 0, run, library_versions()))
    content = json.loads((path / "run.json").read_text())
    own, late = flat(content["run"]), with_late_fields({})
    assert own == {name: late.get(name, value) for name, value in own.items()}
    others = [replace(Run(data=Data(name)), {"model.preset": "meter"}) for name in OTHERS]
    known = own.keys() | {key for one in others for key in flat(dataclasses.asdict(one))}
    assert late.keys() <= known  # some are of other sources and blocks
    del content["run"]["loss"]
    (path / "run.json").write_text(json.dumps(content))
    assert read_record(path).run == run
    suite = Suite("mine", "-", run, {"plain": {}}, "plain", "pairs/accuracy")
    assert list(find_stale(tmp_path, suite)) == []
    other = dataclasses.replace(suite, base=replace(run, {"loss.attention": 0.5}))
    (found,) = find_stale(tmp_path, other)
    assert "loss.attention 0.0 -> 0.5" in found.why
    content["run"]["loss"] = 3
    (path / "run.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=r"run\.json is damaged"):
        read_record(path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"loss.attention": -1.0}, "loss.attention cannot be negative, got -1.0"),
        ({"loss.attention": "much"}, "loss.attention takes a finite number, got 'much'"),
        ({"loss.next_word": 0.0}, "loss: all weights are 0, so nothing would be learned"),
        ({"loss.attention_heads": (1,)}, "loss.attention_heads is for loss.attention"),
        ({"loss.attention": 1.0, "loss.attention_heads": (4,)}, "heads are 0 to 3 of this model"),
        ({"loss.attention": 1.0, "loss.attention_layers": (2,)}, "layers are 0 to 1 of this model"),
        ({"loss.attention": 1.0, "loss.attention_layers": (0, 0)}, "different numbers from 0 on"),
        ({"loss.entropy": 0.1, "model.context_view": "none"}, "set it to tokens, or loss.entropy"),
        ({"loss.attention": 0.1, "model.context_view": "mean"}, "model.context_view mean has not"),
        ({"loss.attention": 0.1, "model.contexts": ("boxes",)}, "add image to model.contexts"),
        ({"loss.diversity": 0.1, "model.heads": 1}, "is about pairs of heads, model.heads is 1"),
        (
            {"loss.distillation": 1.0, "loss.distillation_teacher": "average"},
            "set optimizer.ema, as to 0.99",
        ),
        (
            {"loss.attention": 1.0, "model.block.cross_attention.logits.talking": True},
            "set model.block.cross_attention.logits.talking to False",
        ),
    ],
)
def test_what_cannot_be_computed_is_refused_in_one_line(changes, said):
    with pytest.raises(ValueError, match=re.escape(said)) as raised:
        replace(Run(), changes)
    assert "\n" not in str(raised.value)


def test_data_without_regions_are_refused(examples):
    run = replace(SMALL, {"loss.attention": 1.0})
    nowhere = dataclasses.replace(examples, grounded=np.zeros_like(examples.grounded))
    with pytest.raises(ValueError, match="no word of these data has one: set it to 0"):
        batches_of(run, nowhere, 0)
    batches_of(SMALL, nowhere, 0)


def test_the_terms_are_those_with_a_weight():
    assert Losses().plain
    assert not Losses(next_word=2.0).plain
    assert Losses(attention=0.5, entropy=-0.1).terms == {
        "next_word": 1.0,
        "attention": 0.5,
        "entropy": -0.1,
    }


EVERY = {
    "loss.attention": 0.3,
    "loss.attention_heads": (1,),
    "loss.entropy": -0.1,
    "loss.diversity": 0.2,
    "loss.distillation": 0.5,
}
SMALL = Run(data=Data(images=100), model=Model(width=8, layers=2, heads=2), steps=20, batch_size=16)


def stepped(run, examples, parallel=SINGLE_DEVICE, steps=2):
    """Metrics of each step, and what the optimizer keeps of the gradients."""
    programs = TrainPrograms(run, len(examples.vocabulary), parallel)
    batches, every = batches_of(run, examples, 0), []
    state = programs.create_all(0, batches.batch(0))
    for step in range(steps):
        state, metrics = programs.step(state, parallel.place([batches.batch(step)]), 0.01)
        every.append(jax.device_get(metrics))
    return every, jax.device_get(state.optimizer)


def close(one, other):
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)
    jax.tree.map(same, one, other)


@pytest.fixture(scope="module")
def alone(examples):
    return stepped(replace(SMALL, EVERY), examples)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "accumulate"),
    [
        ("data=4,context=2", 1),
        ("data=2,tensor=2", 1),
        ("data=2,fsdp=2,tensor=2", 2),
        ("", 4),
    ],
)
def test_terms_are_those_of_one_device_over_any_mesh_and_in_parts(
    alone, examples, axes, accumulate
):
    count = int(np.prod([int(axis.partition("=")[2]) for axis in axes.split(",") if axis]))
    mesh = make_mesh(axes, devices=jax.devices()[:count]) if axes else None
    found = stepped(replace(SMALL, EVERY), examples, Parallelism(mesh, accumulate))
    names = {"loss", "accuracy", "gradient_norm", "loss/next_word"}
    names |= {f"loss/{name}" for name in MAP_TERMS}
    assert set(found[0][0]) == names
    # Of parts the accuracy is a mean of ratios.
    for metrics in (*found[0], *alone[0]):
        metrics.pop("accuracy", None)
    close(found, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"model.remat": "everything"},
        {"model.cross_every": 2},
        {"model.preset": "prefix_lm"},
        {"model.preset": "flamingo"},
        {"model.connector": "perceiver_encode"},
        {"model.preset": "meter"},
        {"model.context_view": "truth"},
        {"model.dropout": 0.3},
        {"model.dtype": "bfloat16"},
        {"loss.attention_words": "consumed"},
        {"loss.distillation_teacher": "average", "optimizer.ema": 0.9},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_every_design_has_every_term(examples, changes):
    run = replace(SMALL, {**EVERY, **changes})
    found, _ = stepped(run, examples)
    for metrics in found:
        assert all(np.isfinite(value) for value in metrics.values())
        assert metrics["loss/attention"] > 0
        weights = run.loss.terms
        total = sum(weight * metrics[f"loss/{name}"] for name, weight in weights.items())
        np.testing.assert_allclose(metrics["loss"], total, rtol=1e-5)
    if "model.remat" in changes:
        close(found, stepped(replace(SMALL, EVERY), examples)[0])


@pytest.mark.parametrize("words", ["predicted", pytest.param("consumed", marks=pytest.mark.slow)])
def test_terms_are_measures_of_what_evaluation_sees(examples, words):
    """By NumPy, text by text; and the next word is that of a run without other terms."""
    one = {"model.heads": 1, "loss.attention": 0.3, "loss.entropy": 0.1}
    run = replace(SMALL, {**one, "loss.attention_layers": (1,), "loss.attention_words": words})
    programs, batches = TrainPrograms(run, len(examples.vocabulary)), batches_of(run, examples, 0)
    batch, rows = jax.tree.map(jnp.asarray, batches.batch(0)), batches.picked(0).rows
    params = programs.create(0, batch).params
    seen = Evaluator(programs.model).predict(params, examples.rows(rows)).look.attention
    found = jax.jit(
        lambda params, batch: [
            objective(programs.model, params, batch, terms=terms)[1]
            for terms in (Losses(), run.loss)
        ]
    )
    plain, metrics = found(params, batch)
    np.testing.assert_allclose(metrics["loss/next_word"], plain["loss"], rtol=1e-6)
    tokens, target, regions = examples.tokens[rows], examples.target[rows], examples.regions(rows)
    ahead = words == "predicted"
    asked = target[:, 1:] if ahead else tokens[:, :-1] != 0
    regions = regions[:, 1:] if ahead else regions[:, :-1]
    maps = seen[:, :, : asked.shape[1]]
    supervised, entropy = [], []
    for text in range(len(rows)):
        mass = mass_in_region(maps[1, text], regions[text])[asked[text]]
        mass = mass[~np.isnan(mass)]
        supervised.append(-np.log(mass).mean() if len(mass) else 0)
        entropy += [normalized_entropy(maps[layer, text][asked[text]]).mean() for layer in (0, 1)]
    np.testing.assert_allclose(metrics["loss/attention"], np.mean(supervised), rtol=1e-5)
    np.testing.assert_allclose(metrics["loss/entropy"], np.mean(entropy), rtol=1e-5)


@pytest.mark.slow
def test_supervision_brings_its_head_to_the_region_and_leaves_the_others():
    train = scenes.examples("train", 300, seed=0)
    changes = {"steps": 300, "loss.attention": 1.0, "loss.attention_heads": (1,)}
    run = replace(
        Run(model=Model(width=32, layers=1, heads=2), optimizer=Optimizer(learning_rate=8e-3)),
        {**changes, "loss.attention_layers": (0,)},
    )
    programs, batches = TrainPrograms(run, len(train.vocabulary)), batches_of(run, train, 0)
    state = programs.create(0, batches.batch(0))
    for step in range(run.steps):
        state, _ = programs.step(state, batches.batch(step), 8e-3)
    other = replace(run, {"loss.attention_heads": (0,)})
    batch = jax.tree.map(jnp.asarray, batches.batch(0))
    at = lambda run: objective(programs.model, state.params, batch, terms=run.loss)[1]
    supervised, free = (float(at(one)["loss/attention"]) for one in (run, other))
    assert supervised < 0.5
    assert free > supervised + 1
