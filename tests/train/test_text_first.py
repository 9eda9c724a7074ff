"""Steps of text alone: the image adds nothing in them, and freezing begins behind them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.nn.parameters import chosen
from crossattn.sharding import make_mesh
from crossattn.train import step as steps
from crossattn.train.chunks import Chunking
from crossattn.train.freezing import TwoStages
from crossattn.train.loop import TrainPrograms, fit
from crossattn.train.optimizer import optimizer_of, schedule_of
from crossattn.train.parallel import Parallelism
from crossattn.train.run import Optimizer, replace
from crossattn.train.source import batches_of
from tests.train.test_loop import KilledError, kill_at

FIRST, TEXT = 5, importlib.import_module("configs.gating").TEXT
GATE = "model.block.cross_residual.gate"


@pytest.fixture(scope="module")
def staged(run):
    """With a closed gate, and no decay: what has no gradient stands still to the bit."""
    first = {"pretrain_text_steps": FIRST, "optimizer.frozen": TEXT, GATE: "tanh"}
    return replace(run, {**first, "optimizer.weight_decay": 0.0})


@pytest.fixture(scope="module")
def staged_programs(staged, examples):
    return TrainPrograms(staged, len(examples.vocabulary))


def trained(programs, run, examples, *, images=lambda step, images: images):
    """The states before each step of seed 0, and behind the last."""
    batches = batches_of(run, examples, 0)
    state, found = programs.create(0, batches.batch(0)), []
    for step in range(run.steps):
        found.append(jax.tree.map(jnp.copy, state))
        batch = batches.batch(step)
        batch = batch._replace(images=images(step, batch.images))
        state, _ = programs.step(state, batch, run.optimizer.learning_rate)
    return [*found, state]


@pytest.fixture(scope="module")
def states(staged_programs, staged, examples):
    return trained(staged_programs, staged, examples)


def named(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def moved(one, other):
    """The parameters that differ between two states."""
    two = named(other.params)
    return {path for path, leaf in named(one.params).items() if bool((leaf != two[path]).any())}


def test_the_text_is_trained_first_and_then_the_rest(states):
    paths = set(named(states[0].params))
    text = set(chosen(TEXT, paths))
    for part in ("encoder", "cross_attention", "cross_residual"):
        assert any(part in path for path in paths - text)
    assert any("self_attention" in path for path in text)
    first, then = moved(states[0], states[FIRST]), moved(states[FIRST], states[-1])
    # Rounding moves the biases of keys, of which softmax takes no notice, or does not.
    assert first <= text
    assert {path for path in text - first if not path.endswith("key/bias")} == set()
    assert then <= paths - text
    assert {path for path in paths - text - then if not path.endswith("key/bias")} == set()


def test_no_image_reaches_the_text_before(states, staged_programs, staged, examples, same):
    noise = lambda step, images: images if step >= FIRST else np.roll(images, 1, 0) + 3.0
    others = trained(staged_programs, staged, examples, images=noise)
    assert same(states[-1].params, others[-1].params)
    late = lambda step, images: images if step > FIRST else np.roll(images, 1, 0) + 3.0
    others = trained(staged_programs, staged, examples, images=late)
    assert not same(states[-1].params, others[-1].params)


@pytest.mark.slow
def test_it_is_the_training_of_a_model_without_an_image(states, staged, examples):
    """A blind model of as many steps, whose schedule is that of the first ones."""
    blind = {"steps": FIRST, "model.context_view": "none", "pretrain_text_steps": 0}
    run = replace(staged, {**blind, "optimizer.frozen": ""})
    want = trained(TrainPrograms(run, len(examples.vocabulary)), run, examples)[-1]
    for path, leaf in named(want.params).items():
        got = named(states[FIRST].params)[path]
        if not path.endswith("key/bias"):
            np.testing.assert_allclose(got, leaf, atol=2e-5, err_msg=path)


def test_the_image_starts_with_an_optimizer_that_knows_nothing(states, staged):
    """The first step with an image is Adam's first: of every feature as large as the rate."""
    gate = next(path for path in named(states[0].params) if path.endswith("cross_residual/gate"))
    gates = [named(state.params)[gate] for state in states]
    assert not gates[FIRST].any()
    share = schedule_of(staged.optimizer, staged.steps - FIRST)
    np.testing.assert_array_equal(gates[FIRST + 1], 0)  # the warm-up begins at 0
    want = float(share(1)) * staged.optimizer.learning_rate
    np.testing.assert_allclose(np.abs(gates[FIRST + 2]), want, rtol=0.3)


def test_a_closed_gate_says_what_the_text_alone_says(staged, states, examples):
    model = steps.model_of(staged, len(examples.vocabulary))
    batch = jax.tree.map(jnp.asarray, batches_of(staged, examples, 0).batch(0))
    say = jax.jit(lambda params, visible: steps.forward(model, params, batch, visible)[0])
    seen = jnp.ones(batch.coverage.shape[::2], bool)
    for state, equal in ((states[0], True), (states[FIRST], True), (states[-1], False)):
        both = say(state.params, seen), say(state.params, ~seen)
        assert bool((both[0] == both[1]).all()) == equal


@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint(staged_programs, staged, examples, states, tmp_path, same):
    batches = batches_of(staged, examples, 0)
    for killed in (4, 7):
        with pytest.raises(KilledError):
            fit(staged_programs, batches, tmp_path, progress=kill_at(killed))
    assert same(fit(staged_programs, batches, tmp_path).params, states[-1].params)


def test_without_such_steps_the_optimizer_is_what_it_was():
    params = {"words": jnp.ones(3), "gate": jnp.ones(2)}
    states = [optimizer_of(Optimizer(frozen="words"), 20, n).init(params) for n in (0, 5)]
    assert [isinstance(state, TwoStages) for state in states] == [False, True]


@pytest.mark.slow
def test_it_is_the_same_in_chunks_and_on_a_mesh(staged, examples, states, tmp_path):
    ways = {
        "chunks": Parallelism(chunking=Chunking(steps=3)),
        "mesh": Parallelism(make_mesh("data=5", devices=jax.devices()[:5])),
    }
    for name, parallel in ways.items():
        programs = TrainPrograms(staged, len(examples.vocabulary), parallel)
        state = fit(programs, batches_of(staged, examples, 0), tmp_path / name)
        for path, leaf in named(state.params).items():
            if not path.endswith("key/bias"):
                want = named(states[-1].params)[path]
                np.testing.assert_allclose(leaf, want, atol=1e-4, err_msg=f"{name} {path}")


@pytest.mark.parametrize("steps", [-1, 13])
def test_as_many_steps_as_there_are_or_more_are_refused(run, steps):
    with pytest.raises(ValueError, match="pretrain_text_steps is less than steps 13, got"):
        replace(run, {"pretrain_text_steps": steps})
