"""Keys hidden one by one: blocks of those that are visible, read and written where they lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from crossattn import Mask, attend
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.masks.lowering import gather_visible
from crossattn.ops.trace.statistics import sums
from tests.support.cases import Call, assert_close, inputs

CALL = Call(B=4, H=6, K=3, T=5, S=19)
BLOCKS = (BlockSizes(1, 1, 2, 3), BlockSizes(2, 3, 5, 4), BlockSizes(4, 1, 3, 19))


def leaves(seed):
    """Visible keys (B, S), and lengths that hide all of an example, some of it, and nothing."""
    rng = np.random.default_rng(seed)
    seen = rng.random((CALL.B, CALL.S)) < rng.choice([0.1, 0.5, 0.9], (CALL.B, 1))
    return seen, np.array([CALL.S, 7, 0, CALL.S]), np.array([CALL.T, CALL.T, 3, 1])


def by_keys(seen, key, query):
    return Mask.keys(seen) & Mask.lengths(key=key) & Mask.lengths(query=query)


def written_out(seen, key, query):
    return Mask.dense(by_keys(seen, key, query).dense_array(CALL.B, CALL.T, CALL.S))


def program(blocks, mask_of):
    """Everything that a call gives, jitted: masks are data."""

    @jax.jit
    def results(arrays, leaves):
        def run(q, k, v):
            out, trace = attend(q, k, v, mask=mask_of(*leaves), implementation=blocks)
            return out, trace.lse

        (out, lse), pull = jax.vjp(run, *(arrays[n] for n in "qkv"))
        gradients = pull((arrays["out"].astype(out.dtype), arrays["lse"].astype(lse.dtype)))
        return {"out": out, "lse": lse} | dict(zip(("dq", "dk", "dv"), gradients, strict=True))

    return lambda arrays, leaves, dtype: {
        n: np.asarray(x)
        for n, x in results({n: jnp.asarray(x, dtype) for n, x in arrays.items()}, leaves).items()
    }


@pytest.mark.parametrize("blocks", BLOCKS, ids=str)
def test_equals_the_definition(x64, blocks):
    arrays = inputs(CALL)
    found, wanted = program(blocks, by_keys), program("reference", written_out)
    for seed in range(6):
        given = leaves(seed)
        for dtype in (np.float64, np.float32):
            assert_close(
                found(arrays, given, dtype), wanted(arrays, given, np.float64), arrays, dtype
            )


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nothing_leaks(poison):
    """Hidden keys may hold anything: not a bit of a result changes, and their gradients are 0."""
    run, arrays = program(BLOCKS[1], by_keys), inputs(CALL)
    for seed in range(3):
        given = leaves(seed)
        seen = np.asarray(by_keys(*given).dense_array(CALL.B, CALL.T, CALL.S)).any((1, 2))
        assert not seen.all(1).any()
        bad = arrays | {n: np.where(seen[..., None, None], arrays[n], poison) for n in "kv"}
        wanted, found = (run(x, given, np.float32) for x in (arrays, bad))
        for name, want in wanted.items():
            assert np.array_equal(found[name], want), name
        assert not found["dk"][~seen].any()
        assert not found["dv"][~seen].any()
        assert found["dk"][seen].any()


@pytest.mark.slow
def test_half_precision():
    """Sums over blocks of queries stay in float32, as where keys lie in order."""
    call = inputs(CALL, dtype=jnp.bfloat16)
    for blocks in BLOCKS[:2]:
        found = program(blocks, by_keys)(call, leaves(1), jnp.bfloat16)
        wanted = program(blocks, written_out)(call, leaves(1), jnp.bfloat16)
        assert found["dk"].dtype == jnp.bfloat16
        assert_close(
            found, {n: x.astype(np.float64) for n, x in wanted.items()}, call, jnp.bfloat16
        )


@pytest.mark.parametrize("blocks", BLOCKS[:2], ids=str)
def test_statistics_count_and_name_the_same_keys(x64, blocks):
    arrays = inputs(CALL)
    columns = np.random.default_rng(1).standard_normal((CALL.B, CALL.S, 2))

    def total(mask_of):
        @jax.jit
        def results(q, k, columns, shift, leaves):
            def loss(q, k, columns):
                mask = mask_of(*leaves)
                out = sums(q, k, mask, None, shift, columns, scale=0.3, softcap=None, blocks=blocks)
                floats = (out.total, out.entropy, jnp.where(out.visible > 0, out.top, 0))
                return sum(jnp.sum(jnp.cos(x)) for x in (*floats, out.columns)), out

            return jax.grad(loss, (0, 1, 2), has_aux=True)(q, k, columns)

        return lambda leaves: results(arrays["q"], arrays["k"], columns, arrays["lse"], leaves)

    of_visible, in_order = total(by_keys), total(written_out)
    for seed in range(3):
        found, wanted = (jax.tree.leaves(f(leaves(seed))) for f in (of_visible, in_order))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


def test_what_is_hidden_is_not_computed():
    """The program visits as many blocks as the visible keys fill, wherever they lie."""
    q, k = (jax.ShapeDtypeStruct((1, n, 2, 8), jnp.float32) for n in (16, 65_536))
    seen = jax.ShapeDtypeStruct((1, 65_536), jnp.bool_)

    def both(q, k, v, g, seen):
        mask = Mask.keys(seen)
        out, pull = jax.vjp(lambda *x: attend(*x, mask=mask)[0], q, k, v)
        return out, pull(g)

    memory = jax.jit(both).lower(q, k, k, q, seen).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2 * 16 * 65_536  # two bytes for each pair

    mask, places = gather_visible(Mask.keys(jnp.arange(10)[None] % 3 == 1), 1, 2, 10)
    assert places.tolist() == [[1, 4, 7, *[10] * 7]]
    some, _ = mask.blocks(1, 2, 10, 2, 2)
    assert some.tolist() == [[[True, True, False, False, False]]]
    for other in (Mask.causal(3), Mask.segments(jnp.zeros((1, 2), int), jnp.zeros((1, 10), int))):
        kept = Mask.keys(jnp.ones((1, 10), bool)) & other
        assert gather_visible(kept, 1, 2, 10) == (kept, None)


def test_within_shard_map(x64):
    """A mask that varies over mesh axes over which nothing else does, and gradients through it."""
    arrays = {n: jnp.asarray(x) for n, x in inputs(CALL).items()}
    seen = leaves(2)[0]

    def gradients(q, k, v, seen):
        def loss(q, k, v):
            out, trace = attend(q, k, v, mask=Mask.keys(seen), implementation=BLOCKS[0])
            return jnp.sum(jnp.sin(out)) + jnp.where(trace.valid, trace.entropy(), 0).sum()

        return jax.grad(loss, (0, 1, 2))(q, k, v)

    mesh = jax.make_mesh((2, 3), ("data", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    heads = PartitionSpec("data", None, "tensor")
    specs = (heads, heads, heads, PartitionSpec("data"))
    mapped = jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs[:3])
    given = (*(arrays[n] for n in "qkv"), jnp.asarray(seen))
    for found, wanted in zip(jax.jit(mapped)(*given), jax.jit(gradients)(*given), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)
