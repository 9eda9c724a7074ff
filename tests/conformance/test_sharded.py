"""Sharded by batch and heads equals a single device: outputs and all gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn import Mask
from tests.support.calling import EVERY, assert_judged, evaluate, forward, refusals
from tests.support.cases import Call, inputs
from tests.support.grids import diagonal
from tests.support.situations import TERMS, build, neutral, visible_by_definition

SPLIT = {"B": "data", "H": "heads", "K": "heads"}
# Each of 2 x 4 devices holds one example and one key head with its two query heads.
CALL = Call(B=2, H=8, K=4, bias="HTS", softcap=1.3)
AXES = {"q": "BTHD", "k": "BSKD", "v": "BSKV", "out": "BTHV", "lse": "BHT", "bias": "1HTS"}
OPTIONS = {"scale": CALL.scale, "softcap": CALL.softcap}


def mesh():
    return Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "heads"))


def spec(axes):
    return PartitionSpec(*(SPLIT.get(letter) for letter in axes))


def leaves():
    """Every kind of mask, one row without keys among them."""
    rng, (B, H, T, S) = np.random.default_rng(5), CALL.sizes
    return neutral(CALL) | {
        "key_lengths": np.array([S, S - 2], np.int32),
        "query_lengths": np.array([T - 1, T], np.int32),
        "causal": np.array([1, 3], np.int32),
        "left": np.array([3, 6], np.int32),
        "query_segments": rng.integers(1, 3, (B, T)).astype(np.int32),
        "key_segments": rng.integers(1, 3, (B, S)).astype(np.int32),
        "query_media": np.sort(rng.integers(0, 3, (B, T))).astype(np.int32),
        "dense": rng.random((B, H, T, S)) < 0.9,
    }


def placed():
    """Inputs and masks as one pytree, and its specs."""
    arrays = {name: jnp.asarray(x) for name, x in inputs(CALL).items()}
    masks = {name: jnp.asarray(x) for name, x in leaves().items()}
    specs = {name: spec(AXES[name]) for name in arrays}
    split = {name: spec("BHTS") if x.ndim == 4 else spec("B") for name, x in masks.items()}
    return (arrays, masks), (specs, split)


def attend(arrays, masks, implementation):
    mask = build(masks, tuple(TERMS))
    return evaluate(arrays, mask, implementation=implementation, **OPTIONS)


def by_jit(implementation):
    """The compiler splits the work as the arrays are split."""
    given, specs = placed()
    put = jax.tree.map(lambda x, s: jax.device_put(x, NamedSharding(mesh(), s)), given, specs)
    return jax.jit(functools.partial(attend, implementation=implementation))(*put)


def outputs():
    return {n if n in ("out", "lse") else f"d{n}": spec(axes) for n, axes in AXES.items()}


def by_shard_map(implementation):
    """Each device differentiates its own part; a bias that all examples share sums over them."""
    given, specs = placed()
    call = functools.partial(attend, implementation=implementation)
    mapped = jax.shard_map(call, mesh=mesh(), in_specs=specs, out_specs=outputs(), check_vma=True)
    return jax.jit(mapped)(*given)


@pytest.mark.parametrize(
    ("how", "implementation"),
    diagonal([by_jit, by_shard_map], EVERY),
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_sharded_is_the_definition_too(x64, how, implementation):
    """And so is a single device: to the same tolerance, in the other tests."""
    with refusals(implementation):
        found = how(implementation)
    if isinstance(implementation, str):  # a loop over single heads is not split by the compiler
        shards = {name: x.sharding.shard_shape(x.shape) for name, x in found.items()}
        assert shards["out"] == (1, CALL.T, 2, CALL.V)
        assert shards["dk"] == (1, CALL.S, 1, CALL.D)
    visible = visible_by_definition(leaves())
    assert not visible.any(3).all()
    assert 0.1 < visible.mean() < 0.9
    found = {name: np.asarray(x) for name, x in found.items()}
    assert_judged(found, inputs(CALL), visible, np.float64, **OPTIONS)


@pytest.mark.parametrize("implementation", EVERY)
def test_differentiated_from_outside(x64, implementation):
    """The gradient of a loss around shard_map, without mask or bias."""
    arrays = {name: x for name, x in inputs(CALL).items() if name != "bias"}
    specs = {name: spec(AXES[name]) for name in "qkv"}

    def call(given):
        out, trace = forward(given, Mask(), implementation=implementation)
        return out, trace.lse

    mapped = jax.shard_map(
        call,
        mesh=mesh(),
        in_specs=(specs,),
        out_specs=(spec(AXES["out"]), spec(AXES["lse"])),
        check_vma=True,
    )

    @jax.jit
    def results(given, cotangents):
        (out, lse), pull = jax.vjp(mapped, given)
        (gradients,) = pull(cotangents)
        return {"out": out, "lse": lse} | {f"d{name}": g for name, g in gradients.items()}

    with refusals(implementation):
        given = {name: jnp.asarray(arrays[name]) for name in "qkv"}
        found = results(given, (jnp.asarray(arrays["out"]), jnp.asarray(arrays["lse"])))
    found = {name: np.asarray(x) for name, x in found.items()}
    assert_judged(found, arrays, np.ones((1, 1, 1, 1), bool), np.float64)
