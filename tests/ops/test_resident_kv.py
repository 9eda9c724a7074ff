"""The kernels that hold all keys, on the interpreter: masks are data, one compilation for all."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attention, explain
from crossattn.ops import dispatch
from crossattn.ops.kernels import resident_kv
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs, RefusalError
from crossattn.ops.masks.intervals import intervals
from tests.support.cases import Call, assert_close, build, inputs, kinds, run


@dataclasses.dataclass(frozen=True)
class Interpreted(resident_kv.ResidentKVKernel):
    queries: int = 128
    interpret: bool = True

    name = "interpreted"
    platforms = ()


KERNEL = Interpreted()
# Two blocks of queries, the second ragged.
CALL = Call(H=2, K=1, T=131, S=19, softcap=1.3)
# q, k, v and out each lie in another way: rows of heads, heads first, heads first and turned.
LYING = (
    (Call(H=8, K=4, T=3, S=19, D=128, V=13), jnp.bfloat16),
    (Call(H=2, K=1, T=128, S=16, D=11, V=128), np.float32),
)
# Two blocks of heads.
HEADS = Call(H=16, K=16, T=1, S=3, D=128, V=128), jnp.bfloat16


@pytest.fixture(autouse=True)
def named(monkeypatch):
    monkeypatch.setitem(dispatch.IMPLEMENTATIONS, KERNEL.name, KERNEL)


def masks(call):
    """{kind: leaves}, dense ones for all heads."""
    return {kind: x | {"dense": x["dense"][:, :1]} for kind, x in kinds(call).items()}


def poisoned(call, arrays, leaves):
    """NaN and Inf where nobody sees and where nothing is seen, cotangents included."""
    mask = build(leaves)
    seen = np.asarray(mask.dense_array(call.B, call.T, call.S))[:, 0]
    rows, columns = ~seen.any(2), ~seen.any(1)
    out = {n: x.copy() for n, x in arrays.items()}
    out["q"][rows], out["out"][rows] = np.nan, np.inf
    out["lse"].swapaxes(1, 2)[rows] = np.nan
    out["k"][columns], out["v"][columns] = np.nan, np.inf
    return out


def test_every_mask_equals_the_definition_and_nothing_leaks():
    arrays = inputs(CALL)
    for kind, leaves in masks(CALL).items():
        wanted = run(CALL, arrays, leaves, "reference", np.float32)
        found = run(CALL, arrays, leaves, KERNEL.name, np.float32)
        assert_close(found, wanted, arrays, np.float32, 10.0)
        for name, x in run(
            CALL, poisoned(CALL, arrays, leaves), leaves, KERNEL.name, np.float32
        ).items():
            assert np.array_equal(x, found[name]), (kind, name)


@pytest.mark.parametrize(
    ("call", "dtype"), [*LYING, pytest.param(*HEADS, marks=pytest.mark.slow)], ids=str
)
def test_arrays_are_read_as_they_lie(call, dtype):
    arrays = inputs(call, dtype=dtype)
    wanted = run(call, arrays, None, "reference", np.float32)
    found = run(call, arrays, None, KERNEL.name, dtype)
    assert all(x.dtype == (np.float32 if n == "lse" else dtype) for n, x in found.items())
    assert_close(found, wanted, arrays, dtype, 10.0)


def test_keys_in_two_parts_with_the_softmax_of_both():
    """Backward takes the global out and lse: then dk and dv are of the parts, and dq is a sum."""
    call = Call(B=1, H=1, K=1, T=5, S=14)
    q, k, v, do = (jnp.asarray(inputs(call)[n], jnp.float32) for n in ("q", "k", "v", "out"))
    out, pull = jax.vjp(lambda *x: attention(*x, implementation="xla"), q, k, v)
    part = lambda at: AttentionCall(q, k[:, at], v[:, at], Mask(), None, None, 11**-0.5, None)
    parts = part(slice(7)), part(slice(7, 14))
    forward, backward = jax.jit(KERNEL.forward), jax.jit(KERNEL.backward)
    lse = jax.nn.logsumexp(jnp.stack([forward(part)[1] for part in parts]), 0)
    given = BackwardInputs(out, lse, do)
    (dq, *first, _), (more, *second, _) = (backward(part, given) for part in parts)
    found = dq + more, *(jnp.concatenate(x, 1) for x in zip(first, second, strict=True))
    for got, want in zip(found, pull(do), strict=True):
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_media_of_all_images_so_far_and_ids_beside_lengths():
    """Of intervals: what a query sees is what the mask says, pair by pair."""
    rng = np.random.default_rng(0)
    B, T, S = 2, 5, 7
    ids = lambda n: rng.integers(-1, 3, (B, n)).astype(np.int32)
    mask = Mask.media(ids(T), ids(S), latest_only=False) & Mask.segments(ids(T) // 2, ids(S) // 2)
    mask &= Mask.lengths(np.array([4, 5]), np.array([7, 5])) & Mask.window(
        3, None, np.array([1, 0])
    )
    for one in (mask, Mask.keys(rng.random((B, S)) < 0.5), Mask.causal(-2), Mask.window(1, 1, 0)):
        found = intervals(one, B, T, S)
        rows, columns = np.asarray(found.rows), np.asarray(found.columns)
        j = np.arange(S)[None, :, None]
        seen = (rows[:, 0, None] <= j) & (j <= rows[:, 1, None])
        for n in range(rows.shape[1] - 2):
            low, high = columns[:, :, 2 * n + 1, None], columns[:, :, 2 * n + 2, None]
            seen = seen & (low <= rows[:, n + 2, None]) & (rows[:, n + 2, None] <= high)
        dense = np.asarray(one.dense_array(B, T, S))[:, 0].swapaxes(1, 2)
        assert np.array_equal(np.broadcast_to(seen, dense.shape), dense)
        assert np.array_equal(np.broadcast_to(columns[:, :, 0] > 0, (B, S)), dense.any(2))
        assert found.pairs is None
    assert intervals(Mask(), B, T, S) is None


def shaped(T, S, H=8, K=8, D=64, dtype="bfloat16"):
    return tuple(jax.ShapeDtypeStruct((16, n, h, D), dtype) for n, h in ((T, H), (S, K), (S, K)))


def refused(*shapes, mask=Mask(), bias=None):  # noqa: B008
    return resident_kv.KERNEL.unsupported(AttentionCall(*shapes, mask, bias, None, 0.1, None))


def test_refusals_say_why():
    heads = Mask.dense(np.ones((1, 8, 1, 77), bool))
    wide = Mask.segments(np.zeros((16, 256), np.uint32), np.zeros((16, 77), np.int32))
    assert refused(*shaped(256, 77)) is None
    assert refused(*shaped(256, 77), mask=Mask.causal(np.arange(16))) is None
    assert "each head" in refused(*shaped(256, 77), mask=heads)
    assert "uint32 ids" in refused(*shaped(256, 77), mask=wide)
    assert "float16" in refused(*shaped(256, 77, dtype="float16"))
    assert "a bias" in refused(*shaped(256, 77), bias=np.zeros((1, 1, 1, 1)))
    assert "4096 keys of 8 heads" in refused(*shaped(4096, 4096))
    assert "7 heads" in refused(*shaped(256, 1024, 7, 7, 256, "float32"))
    assert "size 0" in refused(*shaped(256, 0))


@pytest.mark.parametrize(
    ("name", "T", "S"),
    [("resident_kv", 4096, 77), pytest.param("splash", 64, 2048, marks=pytest.mark.slow)],
)
def test_programs_for_several_platforms_hold_the_kernel_for_one(name, T, S):
    q, k, _ = shaped(T, S)
    each = jax.vmap(lambda *x: attention(*x).sum(), (0, None, 0))
    batch = lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype)
    traced = jax.jit(jax.grad(lambda *x: each(*x).sum())).trace(batch(q), k, batch(k))
    assert "tpu_custom_call" in traced.lower(lowering_platforms=("cpu", "tpu")).as_text()
    assert "tpu_custom_call" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    named = jax.jit(lambda q, k: attention(q, k, k, implementation=name)).trace(q, k)
    with pytest.raises(RefusalError, match=f"{name} is a kernel of TPUs"):
        named.lower(lowering_platforms=("cpu",))


def test_chosen_for_many_queries_over_few_keys():
    assert "tpu: resident_kv (T >= 128" in explain(*shaped(4096, 77))
    assert "tpu: resident_kv (T >= 128" in explain(*shaped(32760, 512, 40, 40, 128))
    assert "tpu: chunked" in explain(*shaped(64, 512))
    assert "tpu: splash" in explain(*shaped(4096, 2048))
