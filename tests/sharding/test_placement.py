"""Arrays are made where they belong, and what is elsewhere is found."""

import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from crossattn.nn import CrossAttention
from crossattn.sharding import (
    Rule,
    assert_placed,
    batch_sharding,
    create,
    make_mesh,
    partition,
    place_batch,
)

RULES = "fsdp+tensor"
PATH = "params/query/kernel"


def init(key):
    """Three layers of parameters, as a scanned stack has them."""
    module = CrossAttention(width=8, heads=2)
    shapes = jax.ShapeDtypeStruct((2, 5, 8), "float32"), jax.ShapeDtypeStruct((2, 7, 6), "float32")
    return jax.vmap(lambda key: module.lazy_init(key, *shapes))(jax.random.split(key, 3))


@pytest.fixture(scope="module")
def mesh():
    return make_mesh("data=2,fsdp=2,tensor=2")


@pytest.fixture(scope="module")
def params(mesh):
    return create(init, mesh, RULES, jax.random.key(3))


def replaced(params, change):
    """A copy in which the leaf at PATH is changed."""
    flat, treedef = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(keys, simple=True, separator="/") for keys, _ in flat]
    assert PATH in paths
    leaves = [change(leaf) if p == PATH else leaf for p, (_, leaf) in zip(paths, flat, strict=True)]
    return treedef.unflatten(leaves)


def test_created_where_the_rules_say_with_values_of_one_device(mesh, params):
    assert_placed(params, mesh, RULES)
    whole = jax.jit(init)(jax.random.key(3))
    jax.tree.map(np.testing.assert_array_equal, params, whole)
    query = params["params"]["query"]["kernel"]
    assert query.shape == (3, 8, 8)
    assert query.addressable_shards[0].data.shape == (3, 4, 4)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
    assert held == sum(leaf.bytes for leaf in partition(params, mesh, RULES).leaves)


def test_no_device_ever_holds_the_whole(mesh):
    seen = []

    def make(key):
        kernel = jax.random.normal(key, (6, 8))
        jax.debug.inspect_array_sharding(kernel, callback=seen.append)
        return {"up": {"kernel": kernel * 2}}

    create(make, mesh, RULES, jax.random.key(0))
    assert [sharding.shard_shape((6, 8)) for sharding in seen] == [(3, 4)]


@pytest.mark.parametrize(
    ("change", "actual"),
    [
        (np.asarray, "numpy on no device"),
        (
            lambda leaf: jax.device_put(np.asarray(leaf), jax.devices()[0]),
            f"whole on {jax.devices()[0]}",
        ),
        ("replicated", "P() on data=2,fsdp=2,tensor=2"),
        ("mislabelled", "P(None, 'fsdp', 'data') on data=2,fsdp=2,tensor=2"),
    ],
)
def test_what_is_elsewhere_is_shown_with_both_shardings(mesh, params, change, actual):
    spec = {"replicated": P(), "mislabelled": P(None, "fsdp", "data")}
    if isinstance(change, str):
        elsewhere = NamedSharding(mesh, spec[change])
        change = lambda leaf: jax.device_put(np.asarray(leaf), elsewhere)
    with pytest.raises(AssertionError) as caught:
        assert_placed(replaced(params, change), mesh, RULES)
    first, header, row = str(caught.value).splitlines()
    assert first.startswith("1 of ")
    assert header.split() == ["path", "shape", "expected", "actual"]
    expected = "P(None, 'fsdp', 'tensor') on data=2,fsdp=2,tensor=2"
    assert re.split(" {2,}", row) == [PATH, "(3, 8, 8)", expected, actual]


def test_equivalent_is_not_elsewhere(mesh, params):
    """Another name for the same parts: an axis of one device, None at the end."""
    same = NamedSharding(mesh, P("context", "fsdp", "tensor"))
    assert_placed(replaced(params, lambda leaf: jax.device_put(leaf, same)), mesh, RULES)


def test_a_mislabelled_rule_is_caught(mesh, params):
    typo = (Rule("query/kernel$", (None, "tensr")), Rule("", ()))
    with pytest.raises(ValueError, match=f"{PATH}: .*'tensr'.* does not have; write 'tensor'"):
        assert_placed(params, mesh, typo)
    # A name that the mesh has, but that is not where the arrays are.
    wrong = (Rule("query/kernel$", (None, "data")), Rule("", ()))
    with pytest.raises(AssertionError) as caught:
        assert_placed(params, mesh, wrong)
    row = next(line for line in str(caught.value).splitlines() if line.startswith(PATH))
    assert "P(None, None, 'data')" in row
    assert "P(None, 'fsdp', 'tensor')" in row


def test_an_axis_that_splits_nothing_is_caught(mesh):
    place = lambda rules, shape: create(lambda: {"up": {"kernel": jnp.ones(shape)}}, mesh, rules)
    whole = place("replicated", (6, 8))
    with pytest.raises(AssertionError, match="no array is split over tensor=2 of the mesh data=2"):
        assert_placed(whole, mesh, "replicated")
    assert_placed(place("tensor", (6, 8)), mesh, "tensor")
    odd = place(RULES, (3, 7))
    with pytest.raises(AssertionError, match="over fsdp=2 and tensor=2") as caught:
        assert_placed(odd, mesh, RULES)
    assert "(3, 7): 7 does not divide by tensor=2, left whole (up/kernel)" in str(caught.value)


def test_create_logs_what_could_not_be_split(mesh, caplog):
    with caplog.at_level(logging.WARNING, logger="crossattn.sharding"):
        create(lambda: {"up": {"kernel": jnp.ones((6, 7))}}, mesh, RULES)
    assert "7 does not divide by tensor=2" in caplog.text


def test_explicit_meshes_and_seeds():
    mesh = make_mesh("seed=2,tensor=4", explicit=True)
    make = jax.vmap(lambda key: {"up": {"kernel": jax.random.normal(key, (3, 8))}, "step": 0})
    keys = jax.random.split(jax.random.key(0), 2)
    made = create(make, mesh, "tensor", keys, leading="seed")
    assert_placed(made, mesh, "tensor", leading="seed")
    assert made["up"]["kernel"].sharding.spec == P("seed", None, "tensor")
    whole = make(keys)["up"]["kernel"]
    assert not np.array_equal(whole[0], whole[1])
    np.testing.assert_array_equal(np.asarray(made["up"]["kernel"]), whole)


def test_batches_are_split_by_rows(mesh):
    rows = {"tokens": np.arange(24).reshape(8, 3).astype(np.int32), "seen": np.ones((4,), bool)}
    placed = place_batch(rows, mesh)
    jax.tree.map(np.testing.assert_array_equal, placed, rows)
    assert placed["tokens"].sharding == batch_sharding(mesh)
    assert placed["tokens"].addressable_shards[0].data.shape == (2, 3)
    one = make_mesh(devices=jax.devices()[:1])
    assert place_batch(rows, one)["seen"].sharding.mesh == one
    with pytest.raises(ValueError, match=r"tokens \(6, 3\): its rows .* 4 parts .*multiple of 4"):
        place_batch({"tokens": np.ones((6, 3))}, mesh)
    with pytest.raises(ValueError, match=r"tokens \(\): its rows"):
        place_batch({"tokens": np.ones(())}, mesh)
