"""Runs on meshes: the same losses, the same evaluation, one mesh to another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.fusion import SUITE as FUSION
from crossattn.data.batches import Share
from crossattn.sharding import assert_placed, make_mesh, partition
from crossattn.train.checkpoint import Checkpoints
from crossattn.train.evaluate import Evaluator
from crossattn.train.loop import TrainPrograms, fit
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.run import Data, Model, Run, replace
from crossattn.train.source import batches_of

STEPS = 20
RUN = Run(
    data=Data(images=100),
    model=Model(width=8, layers=1, heads=2),
    steps=STEPS,
    batch_size=16,
    checkpoint_every=STEPS,
)


def parallel(axes, count=8, accumulate=1):
    return Parallelism(make_mesh(axes, devices=jax.devices()[:count]), accumulate)


def trained(examples, parallel, folder):
    """Losses of every step, what the trained model says, and its state."""
    programs, losses = TrainPrograms(RUN, len(examples.vocabulary), parallel), []
    keep = lambda step, metrics: losses.append(metrics)
    state = fit(programs, batches_of(RUN, examples, 0), folder, progress=keep)
    said = Evaluator(programs.model, parallel).predict(state.params, examples.rows(np.arange(13)))
    values = [[line[name] for name in ("loss", "gradient_norm")] for line in losses[1:]]
    return np.array(values), said, state


@pytest.fixture(scope="module")
def alone(examples, tmp_path_factory):
    return trained(examples, Parallelism(), tmp_path_factory.mktemp("alone"))


@pytest.mark.parametrize(
    ("axes", "accumulate"),
    [
        pytest.param("data=8", 1, marks=pytest.mark.slow),
        ("data=2,fsdp=2,tensor=2", 1),
        pytest.param("data=4,context=2", 2, marks=pytest.mark.slow),
    ],
)
def test_any_mesh_trains_the_same_model(alone, examples, tmp_path, axes, accumulate):
    where = parallel(axes, accumulate=accumulate)
    losses, said, state = trained(examples, where, tmp_path)
    np.testing.assert_allclose(losses, alone[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(said.words, alone[1].words)
    np.testing.assert_allclose(said.log_likelihood, alone[1].log_likelihood, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(said.look.attention, alone[1].look.attention, atol=1e-4)
    assert_placed(state, where.mesh, where.rules)
    # And what it saved goes on anywhere else.
    for other, rules in (("fsdp=4,tensor=2", "fsdp+tensor"), ("data=8", "replicated")):
        restored_on(make_mesh(other), rules, state, tmp_path)


def test_every_row_that_reads_patches_reads_them_over_the_axis_context(examples):
    where, batch = parallel("data=4,context=2"), batches_of(RUN, examples, 0).batch(0)
    words, (images, _, patches) = jnp.asarray(batch.tokens[:, 1:]), batch.coverage.shape
    masks = {
        "visible": jnp.ones((images, patches), bool),
        "truth": jnp.ones((*words.shape, patches), bool),
        "prompt": jnp.ones(words.shape, bool),
    }
    assert parallel("data=8").layout(RUN) is None
    maps = {}
    for name, changes in FUSION.variants.items():
        model_of_row = {path: value for path, value in changes.items() if path.startswith("model.")}
        run = replace(RUN, model_of_row)
        model = TrainPrograms(run, len(examples.vocabulary), where).model
        start = functools.partial(model.init, jax.random.key(0), **masks)
        program = str(jax.make_jaxpr(start)(words, jnp.asarray(batch.images)))
        maps[name] = program.count("shard_map[")
    assert [name for name in maps if not maps[name]] == ["blind", "mean-pool"]
    # Words read the latents, and these the patches.
    assert maps["resampler"] > maps["cross-attention"]


def restored_on(mesh, rules, state, folder):
    like = jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        partition(state, mesh, rules).shardings,
    )
    with Checkpoints(folder / "checkpoints", read_only=True) as checkpoints:
        found = checkpoints.restore(like).state
    assert_placed(found, mesh, rules)
    jax.tree.map(np.testing.assert_array_equal, found, state)


def test_batches_that_do_not_divide_are_said():
    with pytest.raises(
        ParallelismError, match=r"batch_size 16 does not divide by 48: 2 texts .* x 3 "
    ):
        parallel("data=8", accumulate=3).check(RUN)
    parallel("data=8").check(RUN)


def test_shares_are_the_whole_batch(examples):
    whole = batches_of(RUN, examples, 0).batch(3)
    parts = [batches_of(RUN, examples, 0, Share(part, 4)).batch(3) for part in range(4)]
    jax.tree.map(
        lambda all, *some: np.testing.assert_array_equal(all, np.concatenate(some)), whole, *parts
    )
