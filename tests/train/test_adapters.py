"""Low-rank adapters beside frozen parameters, as a setting of a run."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from crossattn.train import step as steps
from crossattn.train.adapters import adapters_merged, with_adapters
from crossattn.train.freezing import FrozenError, frozen, stop_frozen, two_stages
from crossattn.train.loop import TrainPrograms, fit
from crossattn.train.run import Optimizer, replace
from crossattn.train.source import batches_of
from tests.train.test_loop import KilledError, kill_at

FIRST, RANK = 5, 2
SUITE = importlib.import_module("configs.frozen").SUITE


def of_row(run, row):
    """A tiny run with the settings of a row of `frozen`; weights decay where they are trained."""
    changes = {"pretrain_text_steps": FIRST, **SUITE.variants[row]}
    return replace(run, changes | {"optimizer.adapter_rank": RANK})


def states_of(run, examples):
    """Those before each step of seed 0, and behind the last."""
    programs, batches = TrainPrograms(run, len(examples.vocabulary)), batches_of(run, examples, 0)
    found = [programs.create(0, batches.batch(0))]
    for step in range(run.steps):
        state = jax.tree.map(jnp.copy, found[-1])
        found.append(programs.step(state, batches.batch(step), run.optimizer.learning_rate)[0])
    return programs, found


@pytest.fixture(scope="module")
def trained(run, examples):
    row = of_row(run, "lora-cross-attention")
    return row, *states_of(row, examples)


def moved(one, other):
    two = flatten_dict(other, sep="/")
    return {path for path, leaf in flatten_dict(one, sep="/").items() if (leaf != two[path]).any()}


@pytest.mark.slow
def test_a_row_with_adapters_begins_as_the_frozen_one(trained, run, examples, same):
    """To the bit, in every step of text alone and at the first one with the image."""
    *_, states = trained
    _, others = states_of(of_row(run, "frozen-cross-attention"), examples)
    for step in range(FIRST + 1):
        assert same(states[step].evaluated, others[step].evaluated)
    assert not same(states[-1].evaluated, others[-1].evaluated)
    assert same(states[0].params["adapters"], states[FIRST].params["adapters"])


def test_of_what_is_frozen_only_adapters_move(trained, run):
    row, _, states = trained
    parts = [state.params for state in (states[FIRST], states[-1])]
    still = stop_frozen(parts[0], row.optimizer.frozen)
    trains = moved(*(part["params"] for part in parts))
    assert trains
    assert not any("self_attention" in path or "mlp" in path for path in trains)
    assert jax.tree.structure(still) == jax.tree.structure(parts[0])
    low = flatten_dict(parts[0]["adapters"], sep="/")
    assert moved(*(part["adapters"] for part in parts)) == set(low)
    assert all("self_attention" in path or "mlp" in path for path in low)
    whole = [flatten_dict(state.evaluated["params"], sep="/") for state in (states[0], states[-1])]
    base = flatten_dict(parts[1]["params"], sep="/")
    for path in {path.rsplit("/", 1)[0] for path in low}:
        difference = np.asarray(whole[1][path] - base[path], np.float64)
        ranks = {
            np.linalg.matrix_rank(one, tol=1e-6)
            for one in difference.reshape(-1, *difference.shape[-2:])
        }
        assert ranks == {RANK}, path


@pytest.mark.slow
def test_it_goes_on_from_a_checkpoint(trained, examples, tmp_path, same):
    row, programs, states = trained
    batches = batches_of(row, examples, 0)
    with pytest.raises(KilledError):
        fit(programs, batches, tmp_path, progress=kill_at(9))
    assert same(fit(programs, batches, tmp_path).params, states[-1].params)


def test_a_moving_average_is_of_the_adapters_as_well(run, examples):
    row = replace(of_row(run, "lora-one-stream"), {"optimizer.ema": 0.5})
    model = steps.model_of(row, len(examples.vocabulary))
    state = jax.eval_shape(
        lambda batch: steps.initial_state(model, optax.identity(), 0, batch, row.optimizer),
        batches_of(row, examples, 0).batch(0),
    )
    assert jax.tree.structure(state.average) == jax.tree.structure(state.params)
    assert set(jax.eval_shape(lambda state: state.evaluated, state)) == {"params"}


KERNEL = {"kernel": jnp.ones((4, 6)), "bias": jnp.ones(6)}
PARAMS = {"params": {"query": KERNEL, "key": KERNEL, "gate": jnp.ones(2)}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"frozen": "query", "adapted": "key"}, "matches key/kernel, which is trained"),
        ({"frozen": "query", "adapted": "qeury"}, r"optimizer.adapted: .*'qeury': near are query"),
        ({"frozen": "query", "adapted": "query/bias"}, "optimizer.adapted: .* no kernel"),
        ({"frozen": "query", "adapted": "("}, "no regular expression"),
    ],
)
def test_what_has_no_adapter_is_refused_in_one_line(settings, said):
    with pytest.raises(FrozenError, match=said) as found:
        with_adapters(jax.random.key(0), PARAMS, Optimizer(**settings))
    assert "\n" not in str(found.value)


def test_settings_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="of kernels that are frozen: set optimizer"):
        Optimizer(adapted="query")
    with pytest.raises(ValueError, match="adapter_rank"):
        Optimizer(frozen="query", adapted="query", adapter_rank=0)


@pytest.mark.parametrize("pattern", [".*", "params", "query|key|gate"])
def test_a_pattern_of_everything_is_refused_without_adapters(pattern):
    every = re.escape(f"frozen: '{pattern}' matches every parameter: nothing is left to train")
    for optimizer in (frozen(optax.sgd(1.0), pattern), two_stages(optax.sgd(1.0), pattern, 3)):
        with pytest.raises(FrozenError, match=every):
            optimizer.init(PARAMS)
    settings = Optimizer(frozen=pattern, adapted="query", adapter_rank=1)
    variables = with_adapters(jax.random.key(0), PARAMS, settings)
    updates, _ = (one := frozen(optax.sgd(1.0), pattern)).update(
        variables, one.init(variables), variables
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates["params"]))
    assert updates["adapters"]["query"]["kernel"]["down"].all()
    assert adapters_merged(PARAMS) is PARAMS
