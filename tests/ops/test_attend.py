import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import BlockSizes, Mask, attend, attention, explain, merge_partials
from tests.support.cases import (
    CALLS,
    FAST,
    IMPLEMENTATIONS,
    Call,
    assert_close,
    drawn,
    everything,
    inputs,
    kinds,
    run,
)
from tests.support.grids import diagonal


def by_loops(call, arrays, visible):
    """The definition again, query by query, in numpy: what the reference is compared with."""
    q, k, v = (arrays[n] for n in "qkv")
    bias = np.broadcast_to(arrays.get("bias", np.zeros((1, 1, 1, 1))), call.sizes)
    out = np.zeros((call.B, call.T, call.H, call.V))
    lse = np.full((call.B, call.H, call.T), -np.inf)
    scale = call.D**-0.5 if call.scale is None else call.scale
    for b, h, i in np.ndindex(lse.shape):
        head = h // (call.H // call.K)
        s = k[b, :, head] @ q[b, i, h] * scale
        s = s if call.softcap is None else call.softcap * np.tanh(s / call.softcap)
        s = (s + bias[b, h, i])[visible[b, h, i]]
        if len(s):
            lse[b, h, i] = np.log(np.exp(s).sum())
            out[b, i, h] = np.exp(s - lse[b, h, i]) @ v[b, visible[b, h, i], head]
    return {"out": out, "lse": lse}


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_reference_is_the_definition(x64, call):
    arrays = inputs(call)
    for leaves in kinds(call).values():
        found = run(call, arrays, leaves, "reference")
        assert_close(found, by_loops(call, arrays, drawn(leaves)), arrays, np.float64)


# "chunked" in small blocks treats every call differently.
IN_BLOCKS = lambda call, implementation: implementation == FAST[-1]


@pytest.mark.parametrize(
    ("call", "implementation"), diagonal(CALLS, FAST, always=IN_BLOCKS), ids=str
)
def test_every_mask_in_float64(x64, call, implementation):
    """Output, lse and all gradients, with cotangents of both results."""
    arrays = inputs(call)
    for kind, leaves in kinds(call).items():
        wanted = run(call, arrays, leaves, "reference")
        found = run(call, arrays, leaves, implementation)
        assert found.keys() == wanted.keys(), kind
        assert_close(found, wanted, arrays, np.float64)


@pytest.mark.parametrize("implementation", FAST)
@pytest.mark.parametrize("call", [Call(), Call(S=0), Call(T=0, S=3)], ids=str)
def test_without_a_mask(x64, call, implementation):
    """No mask is the mask that hides nothing; an empty context leaves every row empty."""
    arrays = inputs(call)
    wanted = run(call, arrays, everything(call), "reference")
    assert_close(run(call, arrays, None, implementation), wanted, arrays, np.float64)


@pytest.mark.parametrize(
    ("call", "dtype", "implementation"),
    diagonal(
        [CALLS[1], Call(H=6, T=3, S=257, V=7)], [jnp.float32, jnp.bfloat16, jnp.float16], FAST
    ),
    ids=lambda one: getattr(one, "__name__", str(one)),
)
def test_tolerances(x64, call, dtype, implementation):
    arrays = inputs(call, dtype=dtype)
    for kind in ("everything", "lengths", "together"):
        leaves = kinds(call)[kind]
        wanted = run(call, arrays, leaves, "reference")
        found = run(call, arrays, leaves, implementation, dtype)
        assert found["out"].dtype == dtype
        assert found["lse"].dtype == np.float32
        assert all(found[f"d{n}"].dtype == dtype for n in "qkv")
        finite = wanted["lse"][np.isfinite(wanted["lse"])]
        assert_close(found, wanted, arrays, dtype, np.abs(finite).max(initial=1))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_far_from_zero(x64, implementation):
    """exp of these scores overflows, and a logit offset common to all keys changes nothing."""
    call = Call()
    arrays = inputs(call)
    wanted = run(call, arrays, None, implementation)
    shifted = arrays | {"bias": np.full((1, 1, 1, 1), 2000.0)}
    found = run(call, shifted, None, implementation)
    np.testing.assert_allclose(found["out"], wanted["out"], atol=1e-11)
    np.testing.assert_allclose(found["lse"], wanted["lse"] + 2000, rtol=1e-12)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("empty", ["lengths", "bias", "causal"])
def test_query_without_keys(empty, implementation):
    """Peers return the mean of V over the padding, and send gradients into it."""
    call = Call(bias="BHTS")
    arrays, leaves = inputs(call), everything(call)
    rows = (slice(None), slice(None))
    if empty == "lengths":
        leaves["key_lengths"], rows = np.array([call.S, 0]), (1, slice(None))
    elif empty == "bias":
        arrays["bias"][1], rows = -np.inf, (1, slice(None))
    else:
        leaves["offset"], rows = np.int32(-2), (slice(None), slice(2))
    found = run(call, arrays, leaves, implementation, np.float32)
    assert all(np.isfinite(x).all() for n, x in found.items() if n != "lse")
    assert not found["out"][rows].any()
    assert np.isneginf(found["lse"].swapaxes(1, 2)[rows]).all()
    assert not found["dq"][rows].any()
    assert not found["dbias"].swapaxes(1, 2)[rows].any()
    if empty != "causal":
        assert not found["dk"][rows].any()
        assert not found["dv"][rows].any()
    assert np.isfinite(found["lse"]).any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_lse_has_a_gradient(implementation):
    """jax.nn returns a residual without one: d lse / d bias are the weights, which sum to 1."""
    call = Call(bias="BHTS", softcap=2.0)
    arrays = inputs(call)
    arrays["out"][:], arrays["lse"][:] = 0, 1
    found = run(call, arrays, everything(call), implementation, np.float32)
    np.testing.assert_allclose(found["dbias"].sum(3), 1, rtol=1e-5)
    assert not found["dv"].any()


@pytest.mark.parametrize(
    ("softcap", "implementation"), diagonal([None, 1.3], FAST, always=IN_BLOCKS), ids=str
)
def test_second_derivatives(x64, softcap, implementation):
    call = Call(H=2, K=1, T=3, bias="HTS", softcap=softcap)
    arrays = {n: jnp.asarray(x) for n, x in inputs(call).items()}
    mask = Mask.lengths(key=jnp.array([5, 0])) & Mask.causal(1)

    def penalty(q, k, v, bias, implementation):
        def loss(q, k, v, bias):
            options = {"softcap": softcap, "implementation": implementation}
            out, trace = attend(q, k, v, mask=mask, bias=bias, **options)
            lse = jnp.where(trace.valid, trace.lse, 0)
            return jnp.sum(jnp.sin(out)) + jnp.sum(lse**2)

        gradients = jax.grad(loss, (0, 1, 2, 3))(q, k, v, bias)
        return sum(jnp.sum(jnp.cos(g)) for g in gradients)

    second = jax.jit(jax.grad(penalty, (0, 1, 2, 3)), static_argnums=4)
    given = [arrays[n] for n in ("q", "k", "v", "bias")]
    for found, wanted in zip(
        second(*given, implementation), second(*given, "reference"), strict=True
    ):
        assert np.abs(wanted).max() > 1e-3
        np.testing.assert_allclose(found, wanted, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("implementation", FAST)
def test_forward_mode_is_refused(implementation):
    q = jnp.ones((1, 2, 1, 3))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda q: attention(q, q, q, implementation=implementation), (q,), (q,))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_order_of_visible_keys_does_not_matter(x64, implementation):
    call = Call(H=6, bias="BHTS")
    arrays, leaves = inputs(call), kinds(call)["together"]
    order = np.random.default_rng(2).permutation(call.S)
    visible = everything(call) | {"dense": drawn(leaves)}
    moved = visible | {"dense": visible["dense"][..., order]}
    shuffled = arrays | {n: arrays[n][:, order] for n in "kv"}
    shuffled["bias"] = arrays["bias"][..., order]
    wanted = run(call, arrays, visible, implementation)
    found = run(call, shuffled, moved, implementation)
    for name, axis in (("dk", 1), ("dv", 1), ("dbias", 3)):
        wanted[name] = np.take(wanted[name], order, axis)
    assert_close(found, wanted, arrays, np.float64)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_vmap_scan_and_jit_agree(implementation):
    """An extra axis (a 5-D batch for others) is a vmap; lengths are data in all of them."""
    rng = np.random.default_rng(3)
    q, k, v = (jnp.asarray(rng.standard_normal((3, 2, n, 3, 11)), jnp.float32) for n in (5, 7, 7))
    lengths = jnp.array([[7, 2], [0, 3], [5, 5]])

    @jax.jit
    def one(q, k, v, n):
        def loss(q):
            out, trace = attend(q, k, v, mask=Mask.lengths(key=n), implementation=implementation)
            return out.sum() + jnp.where(trace.valid, trace.lse, 0).sum(), out

        (_, out), dq = jax.value_and_grad(loss, has_aux=True)(q)
        return out, dq

    each = [one(*x) for x in zip(q, k, v, lengths, strict=True)]
    wanted = [np.stack(x) for x in zip(*each, strict=True)]
    for found in (
        jax.vmap(one)(q, k, v, lengths),
        jax.lax.scan(lambda c, x: (c, one(*x)), None, (q, k, v, lengths))[1],
    ):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_agrees_with_jax_nn_where_that_is_right(implementation):
    """Nobody's row is empty, V = D, lengths int32: there jax.nn computes the same function."""
    call = Call(H=6, V=11, bias="BHTS")
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    lengths = jnp.array([3, 7], jnp.int32)
    given = [arrays[n] for n in "qkv"]
    theirs = jax.nn.dot_product_attention(
        *given, arrays["bias"], key_value_seq_lengths=lengths, scale=0.4
    )
    ours = attention(
        *given,
        mask=Mask.lengths(key=lengths),
        bias=arrays["bias"],
        scale=0.4,
        implementation=implementation,
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_raw_booleans_are_a_dense_mask():
    x = jnp.asarray(inputs(Call(T=7, V=11, D=11))["q"], jnp.float32)
    lower = np.tril(np.ones((7, 7), bool))[None, None]
    wanted = attention(x, x, x, mask=Mask.causal())
    np.testing.assert_allclose(attention(x, x, x, mask=lower), wanted, atol=1e-6)


def test_unused_trace_and_attention_are_the_same_output():
    x = jnp.asarray(inputs(Call(T=7, V=11))["q"], jnp.float32)
    assert np.array_equal(attend(x, x, x)[0], attention(x, x, x))


def test_new_lengths_recompile_nothing():
    x = jnp.ones((2, 3, 1, 5))
    traces = []

    @jax.jit
    def f(x, mask):
        traces.append(mask)
        return attention(x, x, x, mask=mask)

    for n in range(3):
        f(x, Mask.lengths(key=jnp.array([n, 2])) & Mask.causal(n))
    assert len(traces) == 1


def shape(*sizes, dtype="float32"):
    return jax.ShapeDtypeStruct(sizes, dtype)


def test_explained_choice():
    """What the table says, the reason of a refusal, and what a program is compiled to agree."""
    q, k = shape(1, 64, 8, 64), shape(1, 50_000, 8, 64)
    said = explain(q, k, k, bias=shape(1, 8, 64, 1))
    assert "cpu: chunked (otherwise)" in said
    assert "not splash: a bias" in said
    program = jax.jit(attention).lower(q, k, k).as_text()
    assert "stablehlo.while" in program
    assert "64x50000xf32" not in program
    # Keys of a mask are skipped block by block; nothing is skipped without one, or of one block.
    middle, few = shape(1, 256, 2, 64), shape(1, 2048, 2, 64)
    seen = Mask.lengths(key=jnp.array([1000]))
    assert "cpu: xla (up to 2^20" in explain(middle, few, few)
    assert "cpu: chunked" in explain(middle, few, few, mask=seen)
    assert "cpu: xla (up to 2^20" in explain(few, middle, middle, mask=seen)
    small = shape(2, 5, 3, 11)
    assert "cpu: xla (up to" in explain(small, small, small)
    assert "stablehlo.while" not in jax.jit(attention).lower(small, small, small).as_text()


def test_blocks_validate_themselves():
    with pytest.raises(ValueError, match=r"BlockSizes\.keys is at least 1, got 0"):
        BlockSizes(1, 1, 1, 0)


@pytest.mark.parametrize(
    ("T", "S"), [(1, 1), (1, 70_000), (3, 999), (16, 65_536), (65_536, 16), (4097, 77)]
)
@pytest.mark.parametrize(("B", "H", "K"), [(1, 8, 8), (7, 6, 2), (64, 64, 1)])
def test_chosen_blocks_fit(B, H, K, T, S):
    """Any shape: blocks divide what they must, and their scores stay within a cache."""
    chosen = [BlockSizes.for_cpu(B, T, S, H, K, local) for local in (False, True)]
    for blocks in chosen + [BlockSizes.for_few_keys(B, T, S, H, K)] * (S <= 128):
        assert blocks == blocks.fitted(B, T, S, K)
        assert blocks.examples * blocks.heads * H // K * blocks.queries * blocks.keys <= 2**20


def test_nothing_of_size_T_S_in_either_direction():
    q, k = shape(1, 16, 2, 8), shape(1, 65_536, 2, 8)
    mask = Mask.lengths(key=jnp.array([50_000])) & Mask.causal(60_000)

    def both(q, k, v, g):
        out, pull = jax.vjp(lambda *x: attention(*x, mask=mask), q, k, v)
        return out, pull(g)

    memory = jax.jit(both).lower(q, k, k, q).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 16 * 65_536  # one byte for each pair
    memory = jax.jit(both).lower(k, q, q, k).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 4 * 65_536 * 2 * 8  # one copy of the queries


def test_bfloat16_is_not_kept_as_float32():
    q, k = (jax.ShapeDtypeStruct((1, n, 2, 8), jnp.bfloat16) for n in (16, 65_536))
    memory = jax.jit(attention).lower(q, k, k).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 1.1 * 2 * (2 * 65_536 * 2 * 8)  # keys and values once


def test_merge_joins_parts():
    """Parts over disjoint keys, an empty one among them, give the whole, with its gradients."""
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(Call()).items()}
    lengths = jnp.array([7, 3])

    def parted(q, k, v):
        parts = []
        for part in (slice(0, 3), slice(3, 5), slice(5, 7)):
            size = part.stop - part.start
            mask = Mask.lengths(key=jnp.clip(lengths - part.start, 0, size))
            out, trace = attend(q, k[:, part], v[:, part], mask=mask)
            parts.append((out, trace.lse))
        return merge_partials(*(jnp.stack(x) for x in zip(*parts, strict=True)))

    def whole(q, k, v):
        out, trace = attend(q, k, v, mask=Mask.lengths(key=lengths))
        return out, trace.lse

    given = [arrays[n] for n in "qkv"]
    (found, pull), (wanted, pull_wanted) = (jax.vjp(f, *given) for f in (parted, whole))
    cotangents = tuple(jnp.cos(x) for x in wanted)
    for a, b in zip((*found, *pull(cotangents)), (*wanted, *pull_wanted(cotangents)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_few_queries_of_a_cache_are_read_densely():
    """Whatever the platform and the number of keys, which need not be known."""
    q, k = shape(16, 1, 8, 64), shape(16, 576, 8, 64)
    assert "cpu: chunked" in explain(q, k, k)
    said = "xla (T <= 8 and keys that lie heads first"
    symbolic = shape(*jax.export.symbolic_shape("B, S"), 8, 64)
    for queries, keys in ((q, k), (shape(symbolic.shape[0], 8, 8, 64), symbolic)):
        lines = explain(queries, keys, keys, heads_first=True).splitlines()
        assert [said in line for line in lines if line[0] != " "] == [True] * 4
    assert "cpu: chunked" in explain(shape(16, 9, 8, 64), k, k, heads_first=True)
