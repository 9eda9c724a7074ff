"""Several steps and seeds in a program: the same training, interrupted or not, fewer dispatches."""

import shutil

import jax
import numpy as np
import pytest

from crossattn.data import scenes
from crossattn.data.batches import Batches
from crossattn.sharding import make_mesh
from crossattn.train import evaluate, grouping, outcome
from crossattn.train.chunks import Chunking, Chunks
from crossattn.train.evaluate import Evaluator
from crossattn.train.grouping import Grouping
from crossattn.train.loop import NonFiniteLossError, Seat, TrainPrograms, fit, fit_seeds
from crossattn.train.parallel import Parallelism, ParallelismError
from crossattn.train.predictions import Asked
from crossattn.train.run import replace
from crossattn.train.source import batches_of
from crossattn.train.step import train_step
from tests.train.test_loop import KilledError, curve, kill_at

# Of the 13 steps with a checkpoint every 4 these make 2, 2, 2, 2, 2, 2 and 1.
GROUPED = Parallelism(chunking=Chunking(steps=3, seeds=2))
DISPATCHES = 7


class Counted(TrainPrograms):
    """Counts the executions of each program."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = {"step": 0, "chunks": 0}
        self.step = self.counting("step", self.step)
        self.chunks.program = self.counting("chunks", self.chunks.program)

    def counting(self, name, program):
        def call(*arguments):
            self.calls[name] += 1
            return program(*arguments)

        return call


def close(state, other):
    """But for biases of keys, of which softmax takes no notice: their gradients are rounding."""
    for (path, one), two in zip(
        jax.tree_util.tree_leaves_with_path(state.params),
        jax.tree.leaves(other.params),
        strict=True,
    ):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if not name.endswith("key/bias"):
            np.testing.assert_allclose(one, two, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def grouped(run, examples, programs):
    found = Counted(run, len(examples.vocabulary), GROUPED)
    found.create = programs.create  # compiled already
    return found


def seats(run, examples, folder, *, seeds=(0, 1), kill=None):
    progress = {} if kill is None else {"progress": kill_at(kill)}
    return [Seat(batches_of(run, examples, s), folder / f"{s}", **progress) for s in seeds]


@pytest.fixture(scope="module")
def whole(grouped, run, examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    before = dict(grouped.calls)
    states = fit_seeds(grouped, seats(run, examples, folder))
    return folder, states, {name: grouped.calls[name] - before[name] for name in before}


def test_all_seeds_take_one_dispatch_for_several_steps(whole):
    assert whole[2] == {"step": 0, "chunks": DISPATCHES}


def test_a_group_trains_what_single_seeds_do(whole, programs, run, examples, tmp_path):
    folder, states, _ = whole
    for seed in range(2):
        alone = fit(programs, batches_of(run, examples, seed), tmp_path)
        close(states[seed], alone)
        (found,), (wanted,) = curve(folder / f"{seed}"), curve(tmp_path)
        assert (found.pop("chunk_end"), found.pop("seeds")) == (10, 2)
        assert found == pytest.approx(wanted, abs=1e-5)
        shutil.rmtree(tmp_path)


def test_a_group_begins_with_the_values_of_single_seeds(grouped, run, examples, same):
    first = batches_of(run, examples, 0).batch(0)
    states = [grouped.create(seed, first) for seed in range(2)]
    together = grouped.chunks.join(states)
    assert all(same(grouped.chunks.take(together, seed), states[seed]) for seed in range(2))


def test_a_killed_group_goes_on_as_if_nothing_had_been(
    whole, grouped, run, examples, tmp_path, same
):
    with pytest.raises(KilledError):
        fit_seeds(grouped, seats(run, examples, tmp_path, kill=6))
    states = fit_seeds(grouped, seats(run, examples, tmp_path))
    assert same(states, whole[1])
    for seed in "01":
        assert curve(tmp_path / seed) == curve(whole[0] / seed)


def test_seeds_that_were_saved_at_different_steps_go_on_together(
    whole, grouped, run, examples, tmp_path, same
):
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "1" / "checkpoints")
    # Seed 0 has made its last step and waits for seed 1, which begins again.
    before = grouped.calls["chunks"]
    assert same(fit_seeds(grouped, seats(run, examples, tmp_path)), whole[1])
    assert grouped.calls["chunks"] - before == DISPATCHES


@pytest.mark.slow
def test_batches_that_travel_make_the_same_training(whole, run, examples, tmp_path, same):
    travelling = Parallelism(chunking=Chunking(steps=3, seeds=2, resident=False))
    programs = TrainPrograms(run, len(examples.vocabulary), travelling)
    for one, other in zip(
        fit_seeds(programs, seats(run, examples, tmp_path)), whole[1], strict=True
    ):
        close(one, other)
    assert curve(tmp_path / "1")[0] == pytest.approx(curve(whole[0] / "1")[0], abs=1e-5)


def test_a_loss_that_is_not_finite_names_its_own_step(grouped, run, examples, tmp_path):
    bad = seats(run, examples, tmp_path)
    # Seed 1 alone fails, in the middle of a program.
    bad[1] = Seat(bad[1].batches, bad[1].folder, learning_rate=float("inf"))
    with pytest.raises(NonFiniteLossError, match=r"1: step 2: .*nan.*checkpoint: none yet"):
        fit_seeds(grouped, bad)
    assert not list((tmp_path / "1" / "checkpoints").glob("[0-9]*"))


def test_pictures_are_gathered_and_mirrored_as_on_the_host(run):
    pictures = scenes.examples("train", 100, seed=0, image_encoder="patch")
    batches = Batches(pictures, 10, texts_per_image=2, seed=3, flip=True)
    chunks = Chunks(run, train_step, Chunking(2))
    found = chunks._batch(chunks._on_device(batches), batches.picked(5))
    wanted = batches.batch(5)
    assert batches.picked(5).flipped.any()
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("whole", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_many_batches_are_evaluated_in_one_dispatch(programs, run, examples, monkeypatch, whole):
    params = programs.create(0, batches_of(run, examples, 0).batch(0)).params
    visible = np.random.default_rng(0).random((len(examples), 64)) < 0.5
    few = examples.rows(np.arange(30))
    asked = [Asked(examples, attention=True), Asked(few), Asked(examples, visible)]
    wanted = Evaluator(programs.model).predict_all(params, asked)
    together = Evaluator(programs.model, GROUPED)
    scan, calls = together.scan, []
    together.scan = lambda *a, **k: (calls.append(len(a[1].tokens)), scan(*a, **k))[1]
    batches = sum(-(-len(one.examples) // together.rows) for one in asked)
    if not whole:  # too large for one
        monkeypatch.setattr(evaluate, "DISPATCH_BYTES", 0)
    for one, other in zip(together.predict_all(params, asked), wanted, strict=True):
        np.testing.assert_array_equal(one.words, other.words)
        np.testing.assert_allclose(one.log_likelihood, other.log_likelihood, atol=1e-5)
        assert (one.look is None) == (other.look is None)
        near = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)
        jax.tree.map(near, one.look, other.look)
    assert calls == ([batches] if whole else [1] * batches)


def test_a_group_is_the_largest_that_fits(programs, examples, monkeypatch):
    need = grouping.Need.of(programs, examples)
    monkeypatch.setattr(grouping.Need, "of", lambda *_: need)
    monkeypatch.setattr(grouping, "_platform", lambda: "gpu")

    def chosen(room, how=grouping.AUTO, seeds=5):
        monkeypatch.setattr(grouping, "device_bytes", lambda: room / grouping.FILLED)
        return how.plan(programs, examples, range(seeds))

    monkeypatch.setattr(grouping, "DATA", 1)
    for fitting, size in ((7.5, 5), (4.5, 3), (3.5, 3), (2.5, 2), (1.5, 1), (0.5, 1)):
        found, groups, said = chosen(need.data + fitting * need.seed)
        assert [seed for group in groups for seed in group] == list(range(5))
        assert len(groups) == -(-5 // size)
        assert (found.seeds, found.steps) == (size, grouping.STEPS)
        assert said.startswith(f"{size} seeds" if size > 1 else "one seed")
        assert found.resident
    monkeypatch.setattr(grouping, "DATA", 0.4)
    # Data that would fill the device travel, which leaves the room to seeds.
    crowded, _, said = chosen(2 * need.data)
    assert not crowded.resident
    assert "sent with every dispatch" in said
    assert chosen(0, Grouping(seeds="true"))[0].seeds == 5
    assert chosen(1e12, Grouping(seeds="false"))[0] == Chunking(grouping.STEPS, 1)
    assert chosen(1e12, Grouping(7, "false"))[0].steps == 7
    # The group of the others, when seeds 0 to 3 of it are finished.
    rest = grouping.AUTO.plan(programs, examples, [4, 5])
    assert rest.groups == [[4, 5]]
    assert rest.words.startswith("2 seeds of a variant in one program, 4 steps per dispatch")
    by_itself = (None, [[0], [1], [2], [3], [4]], "")
    assert chosen(1e12, Grouping(1, "false")) == by_itself
    monkeypatch.setattr(grouping, "_platform", lambda: "cpu")
    assert chosen(1e12) == by_itself


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(ParallelismError, match="--steps-per-program must be at least 1, got 0"):
        Grouping(0)
    mesh = Parallelism(make_mesh("seed=2", devices=jax.devices()[:2]))
    for asked in (Grouping(50), Grouping(seeds="true")):
        with pytest.raises(ParallelismError, match="leave out --mesh and --distributed"):
            asked.check(mesh)
    Grouping(1, "false").check(mesh)


def test_the_time_of_a_step_is_that_of_one_seed(tmp_path):
    lines = [
        {"step": step, "chunk_end": end, "seeds": 5, "time": 3.0 * end, "loss": 1, "accuracy": 1}
        for end in (50, 100, 150)
        for step in range(end - 40, end + 1, 10)
    ]
    assert outcome._pace(lines) == pytest.approx(0.6)
    assert outcome._pace(lines[:5]) is None
    single = [{"step": step, "time": 0.5 * step} for step in (10, 20, 30)]
    assert outcome._pace(single) == 0.5


@pytest.mark.slow
def test_a_group_on_cuda_attends_in_as_many_calls_as_a_seed(run, examples):
    run = replace(run, {"model.width": 64, "model.dtype": "bfloat16", "batch_size": 64})
    programs = TrainPrograms(run, len(examples.vocabulary), GROUPED)
    batches = batches_of(run, examples, 0)
    state = jax.eval_shape(programs.create, 0, batches.batch(0))
    length, stack = (
        programs.chunks.length,
        lambda x, *n: jax.ShapeDtypeStruct((*n, *x.shape), x.dtype),
    )
    several = (
        jax.tree.map(lambda x: stack(x, 2), state),
        programs.chunks._on_device(batches),
        jax.tree.map(lambda x: stack(x, length, 2), batches.picked(0)),
        np.ones(2, np.float32),
        np.ones(2, np.int32),
    )
    lower = lambda program, given: program.trace(*given).lower(lowering_platforms=("cuda",))
    with jax.numpy_dtype_promotion("standard"):
        alone = lower(programs.step, (state, batches.batch(0), np.float32(1))).as_text()
        group = lower(programs.chunks.program, several).as_text()
    assert group.count("@__cudnn$fmha") == alone.count("@__cudnn$fmha") > 0
    assert group.count("stablehlo.while") == 1 + alone.count("stablehlo.while")
