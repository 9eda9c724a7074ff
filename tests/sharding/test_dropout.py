"""Eight devices drop the weights that one drops, however queries, keys, heads and examples lie."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from crossattn import BlockSizes, Mask, attend
from crossattn.sharding import ContextParallel, attend_sharded

B, T, S, H, K, D = 2, 5, 11, 8, 4, 3
MASK = Mask.lengths(key=jnp.array([S, S - 2])) & Mask.causal(S - 2)
DROPOUT = 0.4, jax.random.key(7)


def given():
    """q, k, v and two cotangents; v is one-hot in the keys: out > 0 where a weight stays."""
    sizes = (B, T, H, D), (B, S, K, D), (B, T, H, S), (B, H, T)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, out, lse = (jax.random.normal(*x) for x in zip(keys, sizes, strict=True))
    return q, k, jnp.broadcast_to(jnp.eye(S)[:, None], (B, S, K, S)), out, lse


def results(call, q, k, v, *cotangents):
    """{out, lse, dq, dk, dv}."""

    def run(q, k, v):
        out, trace = call(q, k, v, mask=MASK, dropout=DROPOUT)
        return out, trace.lse

    found, pull = jax.vjp(run, q, k, v)
    names = ("out", "lse", "dq", "dk", "dv")
    return dict(zip(names, (*found, *pull(cotangents)), strict=True))


@pytest.fixture(scope="module")
def alone():
    call = functools.partial(attend, implementation="xla")
    return jax.jit(functools.partial(results, call))(*given())


def assert_same(found, wanted):
    np.testing.assert_array_equal(found["out"] > 0, wanted["out"] > 0)
    for name, x in wanted.items():
        np.testing.assert_allclose(found[name], x, atol=1e-5, err_msg=name)


# Over which axis examples lie, or heads; the tokens lie over the other.
CASES = [
    ("gather-q", {"batch": ("other",)}, "split_kv"),
    ("gather-kv", {"heads": ("other",)}, BlockSizes(1, 1, 1, 4)),
    pytest.param("ulysses", {"batch": ("other",)}, None, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("strategy", "where", "implementation"), CASES, ids=lambda x: str(x)[:9])
def test_devices_along_the_tokens(alone, strategy, where, implementation):
    kinds = (AxisType.Auto,) * 2
    layout = ContextParallel(jax.make_mesh((2, 4), ("other", "context"), axis_types=kinds), **where)
    how = {"layout": layout, "strategy": strategy, "implementation": implementation}
    call = functools.partial(attend_sharded, **how)
    assert_same(jax.jit(functools.partial(results, call))(*given()), alone)
    assert 0.3 < (alone["out"] > 0).mean() < 0.6


def test_devices_that_the_compiler_splits_by(alone):
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "heads"))
    spec = lambda *axes: NamedSharding(mesh, PartitionSpec(*axes))
    *arrays, lse = given()
    placed = [jax.device_put(x, spec("data", None, "heads")) for x in arrays]
    call = functools.partial(attend, implementation="few_keys")
    found = jax.jit(functools.partial(results, call))(*placed, jax.device_put(lse, spec("data")))
    assert_same(found, alone)


def test_a_key_of_each_device():
    """In a `shard_map` of the user's: the same queries everywhere, and keys that differ."""
    q, k, v, *_ = given()
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])

    def body(keys, q):
        call = lambda q: attend(q, k, v, dropout=(0.4, keys[0]), implementation="chunked")[0]
        found, pull = jax.vjp(call, q)
        return found[None], pull(jnp.ones_like(found))[0]

    specs = (PartitionSpec("data"), PartitionSpec())
    mapped = jax.shard_map(body, mesh=mesh, in_specs=specs, out_specs=specs, check_vma=True)
    keys = jax.random.split(jax.random.key(1))
    found, dq = jax.jit(mapped)(keys, q)
    wanted = [attend(q, k, v, dropout=(0.4, key), implementation="xla")[0] for key in keys]
    np.testing.assert_array_equal(found > 0, jnp.stack(wanted) > 0)
    total = jax.grad(lambda q: sum(attend(q, k, v, dropout=(0.4, key))[0].sum() for key in keys))(q)
    np.testing.assert_allclose(dq, total, atol=1e-5)
