"""Sharded by batch and heads equals a single device: outputs and every gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from calling import evaluate, refusals
from cases import IMPLEMENTATIONS, Call, assert_close, inputs
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from situations import TERMS, build, neutral, visible_by_definition

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
    return (arrays, masks), (
        specs,
        {n: spec("BHTS"[: max(1, x.ndim)]) if x.ndim == 4 else spec("B") for n, x in masks.items()},
    )


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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("how", [by_jit, by_shard_map], ids=lambda how: how.__name__)
def test_sharded_equals_single(x64, how, implementation):
    (arrays, masks), _ = placed()
    with refusals(implementation):
        single = jax.jit(functools.partial(attend, implementation=implementation))(arrays, masks)
        found = how(implementation)
    shards = {name: x.sharding.shard_shape(x.shape) for name, x in found.items()}
    assert shards["out"] == (1, CALL.T, 2, CALL.V)
    assert shards["dk"] == (1, CALL.S, 1, CALL.D)
    found, single = ({n: np.asarray(x) for n, x in of.items()} for of in (found, single))
    assert np.isneginf(single["lse"]).any()
    assert 0.1 < visible_by_definition(leaves()).mean() < 0.9
    assert_close(found, single, {n: np.asarray(x) for n, x in arrays.items()}, np.float64)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_differentiated_from_outside(x64, implementation):
    """The gradient of a loss around shard_map, without mask or bias."""
    arrays = {name: jnp.asarray(inputs(CALL)[name]) for name in "qkv"}
    from crossattn import attend

    def loss(arrays, call):
        out, lse = call(arrays)
        return jnp.sum(jnp.sin(out)) + jnp.sum(lse**2)

    def call(arrays):
        out, trace = attend(**arrays, implementation=implementation)
        return out, trace.lse

    specs = {name: spec(AXES[name]) for name in arrays}
    mapped = jax.shard_map(
        call,
        mesh=mesh(),
        in_specs=(specs,),
        out_specs=(spec("BTHV"), spec("BHT")),
        check_vma=True,
    )
    with refusals(implementation):
        found, wanted = (
            jax.jit(jax.grad(functools.partial(loss, call=f)))(arrays) for f in (mapped, call)
        )
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, atol=1e-12 * np.abs(want).max() + 1e-12)
