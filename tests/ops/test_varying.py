import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from crossattn.ops.varying import varying_like

SPECS = {"x": PartitionSpec("x"), "y": PartitionSpec(None, "y"), "xy": PartitionSpec("x", "y")}


def shard_mapped(f, *specs, out):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    return jax.jit(jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=out, check_vma=True))


def test_a_carry_takes_the_axes_of_what_is_added():
    """Zeros plus sharded blocks in a loop: refused by JAX unless the zeros are declared alike."""
    a, b = np.arange(24.0, dtype=np.float32).reshape(4, 6), np.float32(0.5)

    def total(a, b):
        start = varying_like({"sum": jnp.zeros(()), "count": jnp.zeros((), jnp.int32)}, a, [b])

        def add(carry, row):
            return {"sum": carry["sum"] + (row * b).sum(), "count": carry["count"] + 1}, None

        end = jax.lax.scan(add, start, a)[0]
        return jax.lax.psum(end["sum"], ("x", "y")), jax.lax.psum(end["count"], ("x", "y"))

    mapped = shard_mapped(
        total, SPECS["xy"], PartitionSpec(), out=(PartitionSpec(), PartitionSpec())
    )
    found, count = mapped(a, b)
    np.testing.assert_allclose(found, 0.5 * a.sum())
    assert count == 8


def test_only_missing_axes_are_added_and_gradients_are_those_of_a_copy():
    """x varies over one axis, the other over two; the cotangent of a declared copy is summed."""

    def loss(w, a):
        assert varying_like(a, w) is a
        w = varying_like(w, a)
        assert varying_like(w, a, w) is w
        return jax.lax.psum((w * a).sum(), ("x", "y"))

    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    gradient = shard_mapped(jax.grad(loss), SPECS["x"], SPECS["xy"], out=SPECS["x"])
    ones = np.ones((4, 3), np.float32)
    folded = a[:, :3] + a[:, 3:]
    np.testing.assert_allclose(gradient(ones, a), folded)


def test_outside_of_shard_map_nothing_happens():
    x = jnp.ones(3)
    assert varying_like(x, jnp.zeros(2)) is x
    assert varying_like(x) is x
