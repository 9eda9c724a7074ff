from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask, attend
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.trace import trace as trace_module
from tests.support.cases import Call, build, drawn, inputs, kinds

# Whether with sinks. The second is three ragged blocks each way.
CALLS = (
    (Call(H=6, T=1, S=23, bias="HS"), False),
    (Call(T=17, S=19, bias="BHTS", softcap=1.3), True),
    (Call(H=4, K=1, T=23, S=1, bias="BT"), False),
)


@pytest.fixture
def small_blocks(monkeypatch):
    small = partial(trace_module.sums, blocks=BlockSizes(1, 1, 7, 7))
    monkeypatch.setattr(trace_module, "sums", small)


def drawn_columns(call):
    return jnp.asarray(np.random.default_rng(5).standard_normal((call.B, call.S, 3)))


def drawn_sinks(call):
    return jnp.asarray(np.random.default_rng(7).standard_normal(call.H))


def traced(call, q, k, bias, sinks, mask):
    v = jnp.zeros((*k.shape[:3], 1), k.dtype)
    return attend(q, k, v, mask=mask, bias=bias, softcap=call.softcap, sinks=sinks)[1]


def weights(call, q, k, bias, sinks, visible):
    """Attention weights (B, H, T, S) from whole arrays, 0 where nothing is visible."""
    s = jnp.einsum("bthd,bshd->bhts", q, jnp.repeat(k, call.H // call.K, 2)) / np.sqrt(call.D)
    s = s if call.softcap is None else call.softcap * jnp.tanh(s / call.softcap)
    e = jnp.where(visible, jnp.exp(s + bias), 0)
    total = e.sum(3, keepdims=True)
    if sinks is not None:
        total = total + jnp.exp(sinks)[None, :, None, None]
    return e / jnp.where(total == 0, 1, total)


def statistics_of(p, visible, columns):
    """The same statistics of written weights, in NumPy or JAX."""
    count = jnp.broadcast_to(visible, p.shape).sum(3)
    entropy = -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)), 3)
    share = entropy / jnp.log(jnp.maximum(count, 2).astype(p.dtype))
    return {
        "rows": p,
        "entropy": entropy,
        "normalized": jnp.where(count > 1, share, 0),
        "visible": count,
        "peak": p.max(3),
        "peak_key": p.argmax(3),
        "expected": jnp.einsum("bhts,bsr->bhtr", p, columns),
    }


def statistics(trace, columns):
    summary = trace.summary(columns)
    return {"rows": trace.weights(), "normalized": summary.normalized_entropy} | summary._asdict()


@pytest.mark.parametrize(("call", "sinking"), CALLS, ids=str)
def test_statistics(x64, small_blocks, call, sinking):
    """Every statistic of every kind of mask against whole arrays; sinks take weight from keys."""
    arrays, columns = inputs(call), drawn_columns(call)
    sinks = drawn_sinks(call) if sinking else None
    shared, own = jnp.array([call.T - 1, 0]), jnp.array([[0, call.T - 1], [call.T // 2, 0]])

    @jax.jit
    def compared(q, k, bias, leaves, visible):
        trace = traced(call, q, k, bias, sinks, build(leaves))
        p = weights(call, q, k, bias, sinks, visible)
        found, wanted = statistics(trace, columns), statistics_of(p, visible, columns)
        found |= {"valid": trace.valid, "shared": trace.weights(shared), "own": trace.weights(own)}
        of_own = jax.vmap(lambda p, r: p[:, r])(p, own)
        return found, wanted | {"valid": visible.any(3), "shared": p[:, :, shared], "own": of_own}

    given = [jnp.asarray(arrays[n]) for n in ("q", "k", "bias")]
    for kind, leaves in kinds(call).items():
        found, wanted = compared(*given, leaves, drawn(leaves))
        for name, want in wanted.items():
            np.testing.assert_allclose(found[name], want, atol=1e-12, err_msg=f"{kind}: {name}")


def test_shorthands_are_parts_of_the_summary():
    call = Call(bias="TS")
    q, k, bias = (jnp.asarray(inputs(call)[n], jnp.float32) for n in ("q", "k", "bias"))
    _, trace = attend(q, k, k, bias=bias, mask=Mask.causal(1))
    regions = jnp.asarray(np.random.default_rng(5).random((2, call.S, 2)) < 0.5)
    summary = trace.summary(regions)
    assert np.array_equal(trace.entropy(), summary.entropy)
    assert np.array_equal(trace.entropy(normalized=True), summary.normalized_entropy)
    assert np.array_equal(trace.peak()[0], summary.peak)
    assert np.array_equal(trace.peak()[1], summary.peak_key)
    assert np.array_equal(trace.expect(regions), summary.expected)
    assert trace.summary().expected is None


def loss(found, seed=11):
    """A number that every differentiable statistic moves on its own."""
    rng = np.random.default_rng(seed)
    names = ("rows", "entropy", "normalized", "peak", "expected")
    return sum(jnp.sum(rng.standard_normal(found[n].shape) * jnp.sin(found[n])) for n in names)


def losses(call, leaves, sinking):
    """(through a trace, from whole arrays), functions of q, k, bias, columns and sinks."""
    visible = jnp.asarray(drawn(leaves))

    def found(q, k, bias, columns, sinks):
        sinks = sinks if sinking else None
        return loss(statistics(traced(call, q, k, bias, sinks, build(leaves)), columns))

    def wanted(q, k, bias, columns, sinks):
        p = weights(call, q, k, bias, sinks if sinking else None, visible)
        return loss(statistics_of(p, visible, columns))

    return found, wanted


GRADIENTS = (
    (CALLS[1][0], "together", True),
    pytest.param(Call(H=6, K=2, T=11, S=13, bias="HS"), "lengths", False, marks=pytest.mark.slow),
    (Call(K=1, T=11, S=3, bias="BS"), "everything", False),
)


@pytest.mark.parametrize(("call", "kind", "sinking"), GRADIENTS, ids=str)
def test_gradients(x64, small_blocks, call, kind, sinking):
    """Against autodiff of whole arrays; they reach q, k, the bias, the columns and the sinks."""
    arrays = [jnp.asarray(inputs(call)[n]) for n in ("q", "k", "bias")]
    arrays += [drawn_columns(call), drawn_sinks(call)]
    both = [
        jax.jit(jax.grad(f, tuple(range(4 + sinking))))
        for f in losses(call, kinds(call)[kind], sinking)
    ]
    for got, want in zip(*(f(*arrays) for f in both), strict=True):
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(got, want, atol=1e-11 * np.abs(want).max())


@pytest.mark.slow
def test_second_derivatives(x64, small_blocks):
    """Gradient of the squared gradient, as a penalty on it needs."""
    call = Call(B=1, H=2, K=1, T=5, S=11, D=3, bias="TS", softcap=1.3)
    arrays = [jnp.asarray(inputs(call)[n]) for n in ("q", "k", "bias")]
    arrays += [drawn_columns(call), drawn_sinks(call)]
    leaves = kinds(call)["lengths"] | {"key_lengths": np.array([9], np.int32)}

    def twice(f):
        squares = lambda *x: sum(jnp.sum(g**2) for g in jax.grad(f, (0, 1, 2, 3, 4))(*x))
        return jax.jit(jax.grad(squares, (0, 1, 2, 3, 4)))(*arrays)

    for got, want in zip(*map(twice, losses(call, leaves, sinking=True)), strict=True):
        assert np.abs(want).max() > 1e-3
        np.testing.assert_allclose(got, want, atol=1e-10 * np.abs(want).max())


def test_nothing_leaks_into_statistics(small_blocks):
    """Padding of either side, columns included, changes no statistic and no gradient."""
    call = Call(T=9, S=11)
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    mask = Mask.lengths(query=jnp.array([5, 2]), key=jnp.array([4, 0]))
    columns = jnp.ones((2, call.S, 2))

    @jax.jit
    def statistics(q, k, columns):
        def total(q, k, columns):
            _, trace = attend(q, k, arrays["v"], mask=mask)
            summary = trace.summary(columns)
            found = trace.weights(), trace.weights(jnp.array([0, 3])), summary.normalized_entropy
            found += summary.entropy, summary.peak, summary.expected
            return sum(jnp.sum(x**2) for x in found), (*found, summary.peak_key, summary.visible)

        gradients, found = jax.grad(total, (0, 1, 2), has_aux=True)(q, k, columns)
        return *gradients, *found

    wanted = statistics(arrays["q"], arrays["k"], columns)
    for want in wanted:
        assert np.isfinite(want).all()
        assert not np.asarray(want)[1].any()
    for poison in (np.nan, np.inf):
        q = arrays["q"].at[1].set(poison).at[0, 5:].set(poison)
        k, c = (x.at[0, 4:].set(poison).at[1].set(poison) for x in (arrays["k"], columns))
        for found, want in zip(statistics(q, k, c), wanted, strict=True):
            assert np.array_equal(found, want)


def test_cotangents_of_empty_rows_do_not_matter():
    call = Call()
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    mask = Mask.lengths(key=jnp.array([4, 0]))

    def floats(q, k, columns):
        summary = attend(q, k, arrays["v"], mask=mask)[1].summary(columns)
        return summary.entropy, summary.normalized_entropy, summary.peak, summary.expected

    @jax.jit
    def gradients(*x):
        out, pull = jax.vjp(floats, *x)
        return pull(tuple(jnp.ones_like(x).at[1].set(jnp.nan) for x in out))

    for gradient in gradients(arrays["q"], arrays["k"], jnp.ones((2, call.S, 2))):
        assert np.isfinite(gradient).all()
        assert not gradient[1].any()


@pytest.mark.parametrize("offset", [0, 1000, -1000])
def test_float32_entropy_of_4096_keys(offset):
    """Whatever the logits' offset: neither it nor the rounding of the lse costs digits."""
    rng = np.random.default_rng(0)
    q, k = rng.standard_normal((1, 2, 2, 16)), rng.standard_normal((1, 4096, 2, 16))
    q, k = (x.astype(np.float32) for x in (2 * q, k))
    _, trace = attend(
        *map(jnp.asarray, (q, k, k)), bias=jnp.full((1, 1, 1, 1), offset, jnp.float32)
    )
    s = np.einsum("bthd,bshd->bhts", q.astype(np.float64), k) / 4
    p = np.exp(s - s.max(3, keepdims=True))
    p /= p.sum(3, keepdims=True)
    position = jnp.linspace(0, 1, 4096)[None, :, None]
    summary = jax.jit(lambda t, x: t.summary(x))(trace, position)
    np.testing.assert_allclose(summary.entropy, -(p * np.log(p)).sum(3), atol=5e-6)
    np.testing.assert_allclose(summary.peak, p.max(3), rtol=1e-5)
    np.testing.assert_allclose(summary.expected, p @ np.asarray(position, np.float64), rtol=1e-5)


def test_half_precision_statistics_are_float32():
    """Exact for the scores of the rounded q and k."""
    call = Call(S=101, H=6)
    arrays = inputs(call, dtype=jnp.bfloat16)
    q, k, v = (jnp.asarray(arrays[n], jnp.bfloat16) for n in "qkv")
    _, trace = attend(q, k, v)
    visible, columns = np.ones((2, 6, 5, 101), bool), np.arange(202.0).reshape(2, 101, 1)
    exact = [np.asarray(arrays[n], np.float32) for n in "qk"]
    wanted = statistics_of(weights(call, *exact, 0, None, visible), visible, columns)
    found = jax.jit(statistics)(trace, jnp.asarray(columns, jnp.bfloat16).astype(jnp.float32))
    columns = np.asarray(jnp.asarray(columns, jnp.bfloat16), np.float32)
    wanted["expected"] = jnp.einsum("bhts,bsr->bhtr", wanted["rows"], columns)
    for name, want in wanted.items():
        assert found[name].dtype == (
            jnp.int32 if "visible" in name or "key" in name else jnp.float32
        )
        np.testing.assert_allclose(found[name], want, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_through_a_resampler(x64):
    """Text looks at latents that have looked at patches: products of whole maps."""
    words, latents = Call(H=6, T=5, S=11), Call(H=2, K=1, T=11, S=17)
    mask = Mask.lengths(query=jnp.array([11, 7]), key=jnp.array([13, 17]))
    q, k, _ = (jnp.asarray(inputs(words)[n]) for n in "qkv")
    lq, lk, _ = (jnp.asarray(inputs(latents, seed=3)[n]) for n in "qkv")
    columns = drawn_columns(latents)

    chosen = jnp.array([4, 1])

    def composed(q, k, lq, lk):
        outer, inner = attend(q, k, k)[1], attend(lq, lk, lk, mask=mask)[1]
        return (
            outer.weights(through=inner),
            outer.expect(columns, through=inner),
            outer.weights(chosen, through=inner),
        )

    def whole(q, k, lq, lk):
        outer, inner = attend(q, k, k)[1], attend(lq, lk, lk, mask=mask)[1]
        rows = jnp.einsum("bhtl,bls->bhts", outer.weights(), inner.weights().mean(1))
        return rows, jnp.einsum("bhts,bsr->bhtr", rows, columns), rows[:, :, chosen]

    def everything(f):
        total = lambda *x: (sum(jnp.sum(jnp.sin(3 * y)) for y in f(*x)), f(*x))
        return jax.jit(jax.grad(total, (0, 1, 2, 3), has_aux=True))(q, k, lq, lk)

    for got, want in zip(*map(jax.tree.leaves, map(everything, (composed, whole))), strict=True):
        assert np.abs(want).max() > 1e-3
        np.testing.assert_allclose(got, want, atol=1e-12)
    rows = np.asarray(whole(q, k, lq, lk)[0])
    assert not rows[0, :, :, 13:].any()
    assert (rows[1].sum(2) < 0.9).all()  # latents 7 to 10 see nothing and hand nothing on


def test_through_says_what_it_wants():
    x = jnp.ones((2, 5, 3, 4))
    _, trace = attend(x, x, x)
    _, other = attend(x[:, :3], x, x)
    with pytest.raises(ValueError, match=r"its 3 queries \(B=2\) must be the 5 keys \(B=2\)"):
        trace.weights(through=other)


def test_statistics_of_an_ensemble_are_those_of_its_members():
    rng = jax.random.key(0)
    q, k = (jax.random.normal(rng, (2, 3, 2, n, 2, 4)) for n in (5, 7))
    mask = Mask.lengths(key=jnp.array([7, 0])) & Mask.causal(2)
    one = lambda q, k: attend(q, k, k, mask=mask, sinks=jnp.zeros(2))[1]
    traces = jax.vmap(jax.vmap(one))(q, k)
    shared, own = k[0, 0, :, :, 0], k[:, :, :, :, 0]

    def asked(trace, columns):
        return (
            trace.valid,
            trace.summary(columns),
            trace.entropy(normalized=True),
            trace.expect(shared),
            trace.weights(),
            trace.weights(queries=jnp.array([[1], [2]])),
        )

    found = jax.jit(asked)(traces, own)
    member = jax.tree.map(lambda x: x[1, 2], traces)
    wanted = jax.jit(asked)(member, own[1, 2])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[1, 2], y, atol=1e-6), found, wanted)


def test_maps_through_an_ensemble():
    q, k, patches = (
        jax.random.normal(jax.random.key(n), (3, 2, size, 2, 4)) for n, size in enumerate((4, 5, 7))
    )
    one = lambda q, k: attend(q, k, k)[1]
    text, latents = jax.vmap(one)(q, k), jax.vmap(one)(k, patches)
    columns = patches[:, :, :, 0]
    found = jax.jit(lambda t, through: t.expect(columns, through=through))(text, latents)
    text, latents = jax.tree.map(lambda x: x[1], (text, latents))
    wanted = jax.jit(lambda t, through: t.expect(columns[1], through=through))(text, latents)
    np.testing.assert_allclose(found[1], wanted, atol=1e-6)
