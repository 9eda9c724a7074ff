"""Digests: of every bit, and of nothing else."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from crossattn.sharding import make_mesh
from crossattn.train.digest import digest

DTYPES = (
    np.float32,
    np.float64,
    np.complex64,
    np.int8,
    np.int64,
    np.uint16,
    np.bool_,
    np.float16,
    ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn,
)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3)], ids=str)
def test_every_flipped_bit_changes_it(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).astype(dtype).reshape(shape)
    seen = {digest({"w": array})}
    content = array.tobytes()
    for place in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        seen.add(digest({"w": np.frombuffer(flipped, dtype).reshape(shape)}))
    assert len(seen) == 1 + 8 * len(content)


def test_it_tells_places_names_shapes_and_dtypes_apart():
    a, b = np.arange(6, dtype=np.float32), np.zeros(6, np.float32)
    trees = [
        {"a": a, "b": b},
        {"a": b, "b": a},
        {"a": a[::-1], "b": b},
        {"a": a.reshape(2, 3), "b": b},
        {"a": a.reshape(3, 2), "b": b},
        {"a": a.view(np.int32), "b": b},
        {"a": a.reshape(2, 3).T, "b": b},
        {"c": a, "b": b},
        [a, b],
    ]
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest(trees[0], "step 3") != digest(trees[0], "step 4")
    assert digest(trees[0]) == digest(jax.tree.map(jnp.asarray, trees[0]))


def test_nothing_and_empty_arrays_have_one():
    assert digest({}) == digest({"w": np.zeros((3, 0))}) != digest({"w": np.ones(1)})


def test_keys_have_one():
    keys = jax.random.split(jax.random.key(0), 3)
    assert digest({"key": keys}) != digest({"key": keys[::-1]})
    assert digest({"key": keys}) != digest({"key": jax.random.key_data(keys)})


@pytest.mark.parametrize(
    "spec", [(), ("data",), (None, "tensor"), ("tensor", "data"), (("data", "tensor"),)], ids=str
)
def test_it_is_the_same_on_every_mesh(spec):
    mesh = make_mesh("data=4,tensor=2", devices=jax.devices()[:8])
    place = NamedSharding(mesh, PartitionSpec(*spec))
    for dtype in (np.float32, ml_dtypes.bfloat16):
        array = np.random.default_rng(0).standard_normal((16, 8)).astype(dtype)
        assert digest({"w": jax.device_put(array, place)}) == digest({"w": array})
