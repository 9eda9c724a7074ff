"""Optimizers, schedules, averages, frozen parts: one meaning alone, over a mesh, after a kill."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from crossattn.sharding import assert_placed, make_mesh
from crossattn.train import step as steps
from crossattn.train.freezing import FrozenError
from crossattn.train.loop import Seat, TrainPrograms, fit, fit_seeds
from crossattn.train.optimizer import DIRECTIONS, averaged, optimizer_of, schedule_of
from crossattn.train.parallel import Parallelism
from crossattn.train.run import Optimizer, replace
from crossattn.train.source import batches_of
from tests.support.families import some_quick

EVERYTHING = {
    "optimizer.ema": 0.9,
    "optimizer.frozen": "words",
    "label_smoothing": 0.1,
    "batch_size": 16,
}


def named(run, name):
    """A run with everything that is not the default."""
    rate = {"lion": 1e-3}.get(name, 1e-2)
    return replace(run, EVERYTHING | {"optimizer.name": name, "optimizer.learning_rate": rate})


class Trained:
    """The first parameters, the losses of some steps, and the state after them."""

    def __init__(self, run, examples, parallel=Parallelism()):  # noqa: B008 - it is frozen
        self.programs = TrainPrograms(run, len(examples.vocabulary), parallel)
        self.losses, feed = [], batches_of(run, examples, 0)
        state = self.programs.create(0, feed.batch(0))
        self.first = jax.tree.map(np.asarray, state.params)
        for _ in range(5):
            batch, rate = parallel.place([feed.batch(0)]), np.float32(run.optimizer.learning_rate)
            state, metrics = self.programs.step(state, batch, rate)
            self.losses.append(float(metrics["loss"]))
        self.state = state


@pytest.fixture(scope="module")
def alone(run, examples):
    """Of each optimizer once, on one device."""
    return functools.cache(lambda name: Trained(named(run, name), examples))


some_optimizers = pytest.mark.parametrize("name", some_quick(DIRECTIONS, ("adamw", "adafactor")))


@some_optimizers
def test_every_optimizer_takes_the_loss_down(alone, name):
    losses = alone(name).losses
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("name", ["adafactor", pytest.param("muon", marks=pytest.mark.slow)])
def test_what_has_a_state_of_its_own_does_the_same_over_a_mesh(run, examples, alone, name):
    where = Parallelism(make_mesh("data=2,fsdp=2,tensor=2"), accumulate=2)
    found = Trained(named(run, name), examples, where)
    np.testing.assert_allclose(found.losses, alone(name).losses, rtol=1e-4)
    assert_placed(found.state, where.mesh, where.rules)


@some_optimizers
def test_frozen_parameters_stay_and_have_no_state(alone, name):
    state = alone(name).state
    for tree in (state.params, state.average):
        differ = lambda a, b: bool((a != np.asarray(b)).any())
        moved = jax.tree.map(differ, alone(name).first, tree)["params"]
        assert not any(jax.tree.leaves(moved.pop("words")))
        assert moved["logits"]["kernel"]
    assert not [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.optimizer)
        if "words" in jax.tree_util.keystr(path)
    ]
    assert state.evaluated is state.average


class KilledError(Exception):
    pass


@pytest.mark.slow
def test_killed_and_resumed_is_bit_for_bit_the_same(run, examples, alone, tmp_path, same):
    run, programs = named(run, "muon"), alone("muon").programs
    whole = fit(programs, batches_of(run, examples, 0), tmp_path / "whole")

    def kill(step, metrics):
        if step == 7:
            raise KilledError

    with pytest.raises(KilledError):
        fit(programs, batches_of(run, examples, 0), tmp_path / "killed", progress=kill)
    assert same(fit(programs, batches_of(run, examples, 0), tmp_path / "killed"), whole)
    assert not same(whole.average, whole.params)


@pytest.mark.slow
def test_seeds_at_the_same_time_are_each_alone(run, examples, tmp_path):
    run = named(run, "adamw")
    words = len(examples.vocabulary)
    mesh = make_mesh("seed=2", devices=jax.devices()[:2])
    seats = [Seat(batches_of(run, examples, seed), tmp_path / f"{seed}") for seed in range(2)]
    both = fit_seeds(TrainPrograms(run, words, Parallelism(mesh)), seats)
    for seed, state in enumerate(both):
        one = fit(
            TrainPrograms(run, words), batches_of(run, examples, seed), tmp_path / f"alone{seed}"
        )
        found, wanted = (tree.average["params"]["logits"]["kernel"] for tree in (state, one))
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.fixture
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


def test_the_defaults_are_bit_for_bit_what_they_were(same, standard_promotion):
    """AdamW behind a clipped gradient, as in the release before."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 1.0, 2, 20, end_value=0.1)
    mask = lambda params: {name: {"kernel": True, "bias": False} for name in params}
    former = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01, mask=mask)
    )
    params = {"a": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}

    def way(optimizer):
        @jax.jit
        def move(gradient, state, params):
            updates, state = optimizer.update(gradient, state, params)
            return state, optax.apply_updates(params, updates)

        return move, optimizer.init(params), params

    ways = [way(one) for one in (former, optimizer_of(Optimizer(), 20))]
    for scale in np.linspace(1.7, 8.7, 7, dtype=np.float32):
        gradient = jax.tree.map(lambda leaf, scale=scale: scale * jnp.sin(leaf + scale), params)
        ways = [(move, *move(gradient, state, params)) for move, state, params in ways]
        assert same(ways[0][2], ways[1][2])
    assert same(ways[0][1], ways[1][1])


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("cosine", [0, 0.5, 1, 0.55, 0.1, 0.1]),
        ("linear", [0, 0.5, 1, 0.55, 0.1, 0.1]),
        ("constant", [0, 0.5, 1, 1, 1, 1]),
        ("rsqrt", [0, 0.5, 1, (20 / 110) ** 0.5, (20 / 200) ** 0.5, (20 / 260) ** 0.5]),
    ],
)
def test_schedules_rise_and_then_differ(schedule, wanted, standard_promotion):
    found = schedule_of(Optimizer(schedule=schedule, warmup=0.1), 200)
    rates = [float(found(step)) for step in (0, 10, 20, 110, 200, 260)]
    np.testing.assert_allclose(rates, wanted, atol=1e-6)


def test_the_average_begins_at_once_and_keeps_what_is_equal():
    step = jnp.int32(0)
    old, new = {"w": jnp.float32([0.1, 0.3])}, {"w": jnp.float32([0.1, 1.3])}
    found = averaged(old, new, step, 0.999)["w"]
    assert found[0] == old["w"][0]
    np.testing.assert_allclose(found[1], 0.3 + 0.9, rtol=1e-6)
    late = averaged(old, new, jnp.int32(10**6), 0.9)["w"][1]
    np.testing.assert_allclose(late, 0.4, rtol=1e-6)
    assert averaged((), new, step, 0.0) == ()


def test_smoothed_labels_are_those_of_optax(run, examples):
    batch = batches_of(run, examples, 0).batch(0)
    logits = jax.random.normal(jax.random.key(0), (*batch.tokens[:, 1:].shape, 50))
    labels = optax.smooth_labels(jax.nn.one_hot(batch.tokens[:, 1:], 50), 0.2)
    every = np.asarray(jax.jit(optax.softmax_cross_entropy)(logits, labels))
    weight = batch.target[:, 1:] / np.maximum(batch.target[:, 1:].sum(1, keepdims=True), 1)
    wanted = (every * weight).sum() / len(weight)
    losses = jax.jit(lambda logits: [steps.losses(logits, batch, s)[0] for s in (0.2, 0.0)])
    smoothed, plain = losses(logits)
    np.testing.assert_allclose(smoothed, wanted, rtol=1e-5)
    assert smoothed != plain


def test_what_matches_no_parameter_is_one_line(run, examples):
    run = replace(run, {"optimizer.frozen": "encodr"})
    programs = TrainPrograms(run, len(examples.vocabulary))
    with pytest.raises(FrozenError, match=r"frozen: no parameter's path matches 'encodr': near"):
        programs.create(0, batches_of(run, examples, 0).batch(0))


def test_muon_is_refused_where_optax_has_none(monkeypatch):
    monkeypatch.delattr(optax.contrib, "muon")
    with pytest.raises(ValueError, match=r"^optimizer.name muon is not in optax \d"):
        Optimizer(name="muon")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"optimizer.ema": 1.0}, r"optimizer.ema is a share in \[0, 1\), got 1.0"),
        ({"label_smoothing": -0.1}, "label_smoothing is a share"),
        ({"optimizer.name": "adam"}, "optimizer.name takes one of adamw, lion, adafactor, muon"),
        ({"optimizer.schedule": "step"}, "optimizer.schedule takes one of cosine, linear"),
    ],
)
def test_what_cannot_be_is_one_line(run, fields, said):
    with pytest.raises(ValueError, match=said):
        replace(run, fields)
