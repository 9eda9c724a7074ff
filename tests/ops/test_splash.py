"""The kernels run on the interpreter, which is slow: few sizes, many masks as data for each."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.ops import reference
from crossattn.ops.kernels import splash
from crossattn.ops.kernels.protocol import AttentionCall, BackwardInputs
from crossattn.ops.kernels.splash_schedule import PassSizes, schedule
from crossattn.ops.masks import lowering

KERNEL = splash.SplashKernel(splash.KernelBlocks(query=16, key=128, interpret=True))
SCALE = 0.3
NONE = Mask()


def called(q, k, v, mask, bias=None, softcap=None):
    return AttentionCall(q, k, v, mask, bias, None, SCALE, softcap)


@functools.partial(jax.jit, static_argnames=("band", "softcap"))
def forward(arrays, leaves, *, band=NONE, softcap=None):
    call = called(*(arrays[n] for n in "qkv"), build(leaves) & band, softcap=softcap)
    assert KERNEL.unsupported(call) is None
    return KERNEL.forward(call)


@functools.partial(jax.jit, static_argnames=("band", "softcap"))
def backward(arrays, leaves, o, lse, *, band=NONE, softcap=None):
    call = called(*(arrays[n] for n in "qkv"), build(leaves) & band, softcap=softcap)
    return KERNEL.backward(call, BackwardInputs(o, lse, arrays["out"], arrays["lse"]))[:3]


def build(leaves):
    mask = NONE
    if "query" in leaves:
        mask = mask & Mask.lengths(leaves["query"], leaves["key"]) & Mask.keys(leaves["keys"])
    if "media" in leaves:
        return mask & Mask.media(*leaves["media"])
    return mask & Mask.segments(*leaves["segments"]) if "segments" in leaves else mask


def kinds(B, T, S, seed=0):
    """{kind: leaves} of masks with lengths, keys and segments, of which one does something."""
    rng = np.random.default_rng(seed)
    base = {
        "query": np.full(B, T, np.int32),
        "key": np.full(B, S, np.int32),
        "keys": np.ones((B, S), bool),
        "segments": (np.zeros((B, T), np.int32), np.zeros((B, S), np.int32)),
    }
    ids = rng.integers(-2, 1, (B, T)).astype(np.int32), rng.integers(-3, 0, (B, S)).astype(np.int32)
    lengths = {
        "query": rng.integers(1, T + 1, B).astype(np.int32),
        "key": np.resize([S - S // 2, 0, 1], B).astype(np.int32),
    }
    largest = tuple(np.where(x == -2, np.iinfo(np.int32).max, x).astype(np.int32) for x in ids)
    return {
        "everything": base,
        "lengths": base | lengths,
        "keys": base | {"keys": rng.random((B, S)) < 0.5},
        "segments": base | {"segments": ids},
        "together": base | lengths | {"segments": largest, "keys": rng.random((B, S)) < 0.9},
        "nothing": base | {"key": np.zeros(B, np.int32)},
    }


def inputs(B, T, S, H, K, D, V, seed=0, dtype=np.float32):
    shapes = {"q": (B, T, H, D), "k": (B, S, K, D), "v": (B, S, K, V)}
    shapes |= {"out": (B, T, H, V), "lse": (B, H, T)}
    rng = np.random.default_rng(seed)
    arrays = {n: jnp.asarray(rng.standard_normal(shape), dtype) for n, shape in shapes.items()}
    return arrays | {"lse": arrays["lse"].astype(jnp.float32)}


def poisoned(arrays, visible):
    """NaN and Inf where nobody sees and where nothing is seen, cotangents included."""
    rows, columns = visible.any(3).any(1), visible.any(2).any(1)
    out = {n: np.array(x) for n, x in arrays.items()}
    for name, value in (("q", np.nan), ("out", np.nan)):
        out[name][~rows] = value
    out["lse"].swapaxes(1, 2)[~rows] = np.inf
    out["k"][~columns], out["v"][~columns] = np.nan, np.inf
    return {n: jnp.asarray(x, arrays[n].dtype) for n, x in out.items()}


@functools.partial(jax.jit, static_argnames=("band", "softcap"))
def definition(arrays, leaves, *, band=NONE, softcap=None):
    """{o, lse, dq, dk, dv} of the definition, the cotangent of an empty row's lse being 0."""
    q, k, v, out = (arrays[n].astype(jnp.float32) for n in ("q", "k", "v", "out"))
    call = lambda *x: called(*x, build(leaves) & band, softcap=softcap)
    results = lambda *x: reference.KERNEL.forward(call(*x))
    (o, lse), pull = jax.vjp(results, q, k, v)
    gradients = pull((out, jnp.where(lse == -jnp.inf, 0, arrays["lse"])))
    return dict(zip(("o", "lse", "dq", "dk", "dv"), (o, lse, *gradients), strict=True))


def assert_close(found, wanted, tolerance=2e-5):
    largest = max(np.abs(wanted[n]).max() for n in ("dq", "dk", "dv"))
    for name, want in wanted.items():
        got = np.asarray(found[name], np.float32)
        empty = np.isneginf(want)
        assert np.array_equal(np.isneginf(got), empty), name
        error = np.abs(np.where(empty, 0, got) - np.where(empty, 0, want)).max()
        assert error <= tolerance * (largest if name[0] == "d" else 1), f"{name}: {error}"


def check(arrays, leaves, tolerance=2e-5, **static):
    (B, T, *_), S = arrays["q"].shape, arrays["k"].shape[1]
    mask = build(leaves) & static.get("band", NONE)
    wanted = definition(arrays, leaves, **static)
    given = poisoned(arrays, np.asarray(mask.dense_array(B, T, S)))
    o, lse = forward(given, leaves, **static)
    assert lse.dtype == jnp.float32
    assert o.dtype == given["v"].dtype
    gradients = backward(given, leaves, o, lse, **static)
    found = dict(zip(("o", "lse", "dq", "dk", "dv"), (o, lse, *gradients), strict=True))
    assert_close(found, wanted, tolerance)


@pytest.mark.parametrize("sizes", [(1, 197, 77, 4, 2, 40, 24), (1, 1, 130, 2, 1, 128, 64)])
def test_ragged_sizes_and_grouped_heads(sizes):
    check(inputs(*sizes), {})


def test_every_mask_and_its_poison():
    arrays = inputs(3, 19, 150, 4, 2, 16, 8)
    for leaves in kinds(3, 19, 150).values():
        check(arrays, leaves, softcap=1.3)


def test_one_example_skips_what_it_does_not_see():
    arrays, rng = inputs(1, 37, 300, 2, 1, 11, 13), np.random.default_rng(0)
    media = tuple(np.sort(rng.integers(0, 4, (1, n)).astype(np.int32)) for n in (37, 300))
    leaves = kinds(1, 37, 300)
    for kind in ("everything", "lengths"):
        check(arrays, {n: x for n, x in leaves[kind].items() if n != "segments"} | {"media": media})


def test_bands_with_lengths():
    """Rows before the window see nothing; some blocks are skipped, some masked, none is whole."""
    arrays, leaves = inputs(2, 150, 300, 1, 1, 8, 8), kinds(2, 150, 300)
    for kind in ("everything", "lengths"):
        check(arrays, leaves[kind], band=Mask.window(30, 40, -20) & Mask.causal(15))


def test_band_that_hides_everything():
    check(inputs(1, 16, 128, 1, 1, 8, 8), {}, band=Mask.causal(-16))


def test_bfloat16():
    check(inputs(2, 16, 256, 2, 2, 64, 64, dtype=jnp.bfloat16), {}, tolerance=2e-2)


def test_keys_in_two_parts_with_the_softmax_of_both():
    """Backward takes the global out and lse: then dk and dv are of the parts, and dq is a sum."""
    B, T, S = 2, 19, 150
    arrays = inputs(B, T, 2 * S, 4, 2, 16, 8)
    parts = [arrays | {n: arrays[n][:, at] for n in "kv"} for at in (slice(0, S), slice(S, 2 * S))]
    base = kinds(B, T, S)["everything"]
    leaves = [base | {"key": np.array([S, 60])}, base | {"key": np.array([70, 0])}]
    leaves = [x | {"key": x["key"].astype(np.int32)} for x in leaves]
    both = base | {"key": np.array([S + 70, 60], np.int32), "keys": np.ones((B, 2 * S), bool)}
    both["segments"] = (base["segments"][0], np.zeros((B, 2 * S), np.int32))
    results = [forward(x, m, softcap=1.3) for x, m in zip(parts, leaves, strict=True)]
    lse = jnp.logaddexp(results[0][1], results[1][1])
    weights = (jnp.exp(x - lse).swapaxes(1, 2)[..., None] for _, x in results)
    o = sum(out * w for (out, _), w in zip(results, weights, strict=True))
    found = [backward(x, m, o, lse, softcap=1.3) for x, m in zip(parts, leaves, strict=True)]
    gradients = {n: jnp.concatenate([x[i] for x in found], 1) for i, n in ((1, "dk"), (2, "dv"))}
    gradients |= {"o": o, "lse": lse, "dq": found[0][0] + found[1][0]}
    assert_close(gradients, definition(arrays, both, softcap=1.3))


def test_products_are_as_precise_as_the_inputs():
    """On a TPU the default would be one pass of bfloat16, for float32 too."""
    for dtype, wanted in ((jnp.float32, "HIGHEST"), (jnp.bfloat16, "DEFAULT")):
        arrays = inputs(1, 16, 128, 1, 1, 8, 8, dtype=dtype)
        o, lse = jax.eval_shape(functools.partial(forward, leaves={}), arrays)
        with jax.default_matmul_precision("high"):  # whatever a user has set
            text = [str(jax.make_jaxpr(lambda a: forward(a, {}))(arrays))]
            text.append(str(jax.make_jaxpr(lambda *a: backward(a[0], {}, *a[1:]))(arrays, o, lse)))
        products = re.findall(r"Precision\.(\w+)", "".join(text))
        assert products == 2 * (2 + 3 + 4) * [wanted]  # both factors of each product


def test_long_context_leaves_little_in_the_program():
    """65536 x 65536: what is skipped is known in closed form, on the host as well."""
    mask, shape = Mask.window(900, 0), jax.ShapeDtypeStruct((1, 65536, 1, 64), jnp.bfloat16)
    run = lambda q: splash.KERNEL.forward(called(q, q, q, mask))
    program = jax.make_jaxpr(run)(shape)
    assert sum(np.size(x) for x in program.consts) < 2**20
    found, _ = schedule(mask, 65536, 65536, PassSizes(512, 1024, 65536, 65536), None)
    assert found.data_next.shape == (1, 128, 2)  # of 64 blocks of keys for each of queries


@pytest.mark.parametrize("by_keys", [False, True])
def test_schedules_visit_what_is_visible_once_in_order(by_keys):
    rng = np.random.default_rng(0)
    for _ in range(60):
        T, S, query, key = (int(x) for x in rng.integers(1, 40, 4))
        low, high = sorted(int(x) for x in rng.integers(-40, 40, 2))
        mask = Mask.window(-low, high, 0)
        cut = PassSizes(query, key, -(-T // query) * query, -(-S // key) * key)
        info, band = schedule(mask, T, S, cut, None, by_keys)
        i, j = np.arange(cut.T)[:, None], np.arange(cut.S)[None]
        dense = (i < T) & (j < S) & (j - i >= low) & (j - i <= high)
        blocks = dense.reshape(cut.T // query, query, cut.S // key, key).any((1, 3))
        if band is not None:
            assert np.array_equal(band(i, j)[:T], dense[:T])
        else:
            assert dense[:T].all()
        if info.data_next is None:
            continue
        visit, kind = (x[0].T if by_keys else x[0] for x in (info.data_next, info.block_mask))
        rows = blocks.T if by_keys else blocks
        assert visit.min() >= 0
        assert visit.max() < rows.shape[1]
        following = np.roll(np.arange(len(rows)), -1)
        for row, order, kinds_of, after in zip(rows, visit, kind, following, strict=True):
            run = order[kinds_of > 0]
            assert np.array_equal(run, np.unique(run))
            assert set(np.flatnonzero(row)) <= set(run)
            if kind[after, 0]:  # what comes next is fetched where nothing is computed
                assert (order[kinds_of == 0] == visit[after, 0]).all()


def test_blocks_are_checked():
    for sizes in ({"query": 0}, {"query": 24}, {"key": 64}, {"key": 192}):
        with pytest.raises(ValueError, match="multiple of"):
            splash.KernelBlocks(**sizes)


def refused(*, q=(1, 4, 2, 8), k=(1, 6, 2, 8), dtype=jnp.bfloat16, mask=NONE, bias=None):
    q, k = (jax.ShapeDtypeStruct(shape, dtype) for shape in (q, k))
    return KERNEL.unsupported(called(q, k, k, mask, bias))


def ids(n, dtype=np.int32):
    return np.zeros((1, n), dtype)


SEGMENTS = Mask.segments(ids(4), ids(6))


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ({}, None),
        ({"mask": SEGMENTS & Mask.causal(1) & Mask.lengths(key=np.array([3]))}, None),
        ({"mask": Mask.media(ids(4), ids(6)) & Mask.keys(np.ones((1, 6), bool))}, None),
        ({"dtype": jnp.float16}, "float16: splash computes in bfloat16 and float32"),
        ({"k": (1, 0, 2, 8)}, "size 0"),
        ({"q": (1, 4, 2, 264), "k": (1, 6, 2, 264)}, "more than 256"),
        ({"bias": np.zeros((1, 1, 1, 1))}, "a bias"),
        ({"mask": Mask.dense(np.ones((1, 1, 4, 6), bool))}, "a dense mask"),
        ({"mask": Mask.causal(np.array([1]))}, "Python integers"),
        ({"mask": Mask.window(1, np.array([1]), 0)}, "Python integers"),
        ({"mask": Mask.media(ids(4), ids(6), latest_only=False)}, "latest_only"),
        ({"mask": SEGMENTS & SEGMENTS}, "two terms"),
        ({"mask": Mask.segments(ids(4, np.uint32), ids(6))}, "uint32 ids"),
    ],
)
def test_refusals_say_why(call, reason):
    found = refused(**call)
    assert found == reason if reason is None else reason in found


def test_a_mesh_that_would_partition_the_kernel_is_a_refusal():
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = jax.sharding.PartitionSpec("x")

    def shown(x):
        seen.append(refused())
        return x

    def sharded(**axes):
        jax.jit(jax.shard_map(shown, in_specs=specs, out_specs=specs, **axes))(np.zeros(8))

    seen = []
    with jax.set_mesh(mesh):
        jax.jit(shown)(np.zeros(8))
        sharded()
        sharded(axis_names={"x"})
    assert "['x', 'y']" in seen[0]
    assert seen[1] is None
    assert "['y']" in seen[2]


def test_ids_of_hidden_keys_are_free_ids():
    top = np.iinfo(np.int32).max
    for used in ([0, 5], [top, -3], [-7, -7]):
        query = np.array([used], np.int32)
        mask = Mask.segments(query, np.zeros((1, 3), np.int32)) & Mask.lengths(key=np.array([1]))
        _, key = lowering.matched_ids(mask, 1, 2, 3, 5)
        assert key[0, 0] == 0
        assert not set(np.asarray(key[0, 1:]).tolist()) & set(used)
