import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import IMPLEMENTATIONS, Call, drawn, inputs, kinds

from crossattn import Mask, attend, attention
from crossattn.ops import xla

CALLS = (Call(bias="BHTS", softcap=1.3), Call(H=6, bias="HS"), Call(T=3, S=1, bias="B"))


def weights(call, arrays, visible):
    """Attention weights (B, H, T, S) in plain numpy, 0 where nothing is visible."""
    k = arrays["k"].repeat(call.H // call.K, 2)
    s = np.einsum("bthd,bshd->bhts", arrays["q"], k) / np.sqrt(call.D)
    s = s if call.softcap is None else call.softcap * np.tanh(s / call.softcap)
    e = np.where(visible, np.exp(s + arrays["bias"]), 0)
    return e / np.maximum(e.sum(3, keepdims=True), 1e-300)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_statistics(x64, call, implementation):
    """Every statistic of every kind of mask, against weights made by hand."""
    arrays, T = inputs(call), call.T
    rng = np.random.default_rng(5)
    columns, regions = rng.standard_normal((2, call.S, 3)), rng.random((2, call.S, 2)) < 0.5
    shared, own = np.array([T - 1, 0, T - 1]), np.array([[0, T - 1], [T // 2, 0]])

    @jax.jit
    def statistics(q, k, v, bias, visible):
        options = {"bias": bias, "softcap": call.softcap, "implementation": implementation}
        _, trace = attend(q, k, v, mask=visible, **options)
        return {
            "valid": trace.valid,
            "rows": trace.rows(),
            "shared": trace.rows(jnp.asarray(shared)),
            "own": trace.rows(jnp.asarray(own)),
            "peak": trace.peak(),
            "entropy": trace.entropy(),
            "share": trace.entropy(normalized=True),
            "columns": trace.expect(jnp.asarray(columns)),
            "regions": trace.expect(jnp.asarray(regions)),
        }

    given = [arrays[n] for n in ("q", "k", "v", "bias")]
    for kind, leaves in kinds(call).items():
        visible = drawn(leaves)
        p, count = weights(call, arrays, visible), visible.sum(3)
        nats = -np.sum(p * np.log(np.where(p > 0, p, 1)), 3)
        found = statistics(*given, visible)
        wanted = {
            "valid": visible.any(3),
            "rows": p,
            "shared": p[:, :, shared],
            "own": np.stack([w[:, r] for w, r in zip(p, own, strict=True)]),
            "peak": (p.max(3), p.argmax(3)),
            "entropy": nats,
            "share": np.where(count > 1, nats / np.log(np.maximum(count, 2)), 0),
            "columns": np.einsum("bhts,bsr->bhtr", p, columns),
            "regions": np.einsum("bhts,bsr->bhtr", p, regions),
        }
        for name, want in wanted.items():
            for a, b in zip(jax.tree.leaves(found[name]), jax.tree.leaves(want), strict=True):
                np.testing.assert_allclose(a, b, atol=1e-12, err_msg=f"{kind}: {name}")


def test_gradients(x64):
    """Against autodiff of the definition written out; cotangents reach q, k and the bias."""
    call = CALLS[0]
    arrays = {n: jnp.asarray(x) for n, x in inputs(call).items()}
    visible = jnp.asarray(drawn(kinds(call)["together"]))
    columns = jnp.asarray(np.random.default_rng(6).standard_normal((2, call.S, 3)))

    def summary(p, entropy, expected):
        return jnp.sum(p**2) + jnp.sum(entropy**2) + jnp.sum(jnp.sin(expected))

    def found(q, k, bias):
        _, trace = attend(q, k, arrays["v"], mask=visible, bias=bias, softcap=call.softcap)
        rows = trace.rows(jnp.array([1, 4]))
        return summary(rows, trace.entropy(normalized=True), trace.expect(columns))

    def wanted(q, k, bias):
        s = jnp.einsum("bthd,bshd->bhts", q, k) / jnp.sqrt(call.D)
        s = call.softcap * jnp.tanh(s / call.softcap) + bias
        some = visible.any(3, keepdims=True)
        p = jax.nn.softmax(jnp.where(visible | ~some, s, -jnp.inf), -1)
        p = jnp.where(some, p, 0)
        count = visible.sum(3)
        entropy = -jnp.sum(jnp.where(visible, p * jnp.log(jnp.where(visible, p, 1)), 0), 3)
        entropy = jnp.where(count > 1, entropy / jnp.log(jnp.maximum(count, 2).astype(q.dtype)), 0)
        return summary(
            p[:, :, jnp.array([1, 4])], entropy, jnp.einsum("bhts,bsr->bhtr", p, columns)
        )

    given = [arrays[n] for n in ("q", "k", "bias")]
    for got, want in zip(
        jax.jit(jax.grad(found, (0, 1, 2)))(*given),
        jax.jit(jax.grad(wanted, (0, 1, 2)))(*given),
        strict=True,
    ):
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(got, want, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_nothing_leaks_into_statistics(poison):
    """Padding of either side, columns included, changes no statistic and no gradient."""
    call = Call()
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    mask = Mask.lengths(query=jnp.array([5, 2]), key=jnp.array([4, 0]))
    columns = jnp.ones((2, call.S, 2))

    @jax.jit
    def statistics(q, k, columns):
        def total(q, k):
            _, trace = attend(q, k, arrays["v"], mask=mask)
            found = (
                trace.rows(),
                trace.rows(jnp.array([0, 3])),
                trace.peak()[0],
                trace.entropy(),
                trace.entropy(normalized=True),
                trace.expect(columns),
            )
            return sum(jnp.sum(x**2) for x in found), found

        gradients, found = jax.grad(total, (0, 1), has_aux=True)(q, k)
        return *gradients, *found

    wanted = statistics(arrays["q"], arrays["k"], columns)
    q = arrays["q"].at[1].set(poison)
    k, columns = (x.at[0, 4:].set(poison).at[1].set(poison) for x in (arrays["k"], columns))
    for found, want in zip(statistics(q, k, columns), wanted, strict=True):
        assert np.array_equal(found, want)
        assert np.isfinite(want).all()
        assert not np.asarray(want)[1].any()


def cost(f, *arrays):
    compiled = jax.jit(f).lower(*arrays).compile()
    analysis = compiled.cost_analysis()
    return analysis["flops"], compiled.memory_analysis().temp_size_in_bytes


def without_trace(q, k, v, mask):
    """The implementation itself, which has never heard of a trace."""
    return xla.attend(q, k, v, mask, None, q.shape[3] ** -0.5, None)[0]


def with_trace(q, k, v, mask):
    return attend(q, k, v, mask=mask, implementation="xla")


def plain(body):
    return body


def remat(body):
    return jax.checkpoint(body)


def scanned(body):
    """Three layers; whatever the body returns beside x is stacked and dropped."""

    def layers(x, k, v, mask):
        return jax.lax.scan(lambda x, _: body(x, k, v, mask), x, length=3)

    return layers


def scanned_remat(body):
    return scanned(jax.checkpoint(body))


@pytest.mark.parametrize(
    ("through", "gradient"),
    [(plain, False), (plain, True), (remat, True), (scanned, False), (scanned_remat, True)],
)
def test_unused_costs_nothing(through, gradient):
    """Flops and temporary bytes are those of the bare implementation, across scan and remat too."""
    q, k, mask = (
        jnp.ones((2, 5, 3, 11)),
        jnp.ones((2, 7, 3, 11)),
        Mask.lengths(key=jnp.array([3, 7])),
    )

    def program(body):
        inner = through(body)

        def loss(q, k, v, mask):
            return jnp.sum(inner(q, k, v, mask)[0] ** 2)

        return jax.grad(loss, (0, 1, 2)) if gradient else loss

    bare = cost(program(lambda *call: (without_trace(*call), ())), q, k, k, mask)
    assert bare[0] > 0
    assert cost(program(with_trace), q, k, k, mask) == bare
    assert (
        cost(program(lambda *call: (attention(*call[:3], mask=call[3]), ())), q, k, k, mask) == bare
    )

    if through is plain:  # the comparison can tell: a trace that is used costs something

        def used(*call):
            out, trace = with_trace(*call)
            return out + trace.entropy().swapaxes(1, 2)[..., None], ()

        assert cost(program(used), q, k, k, mask)[0] > bare[0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_use_leaves_the_output_alone(implementation):
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(Call()).items()}
    q, k, v = (arrays[n] for n in "qkv")

    @jax.jit
    def unused(q, k, v):
        return attend(q, k, v, mask=Mask.causal(1), implementation=implementation)[0]

    @jax.jit
    def used(q, k, v):
        out, trace = attend(q, k, v, mask=Mask.causal(1), implementation=implementation)
        return out, trace.rows(), trace.entropy(), trace.peak(), trace.expect(v[:, :, 0])

    eps = float(jnp.finfo(jnp.float32).eps)
    error = np.abs(unused(q, k, v) - used(q, k, v)[0]).max()
    assert error <= 4 * eps * np.abs(v).max()


def test_a_pytree_that_refers():
    call = Call(bias="HTS", softcap=1.3)
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    q, k, v, bias = (arrays[n] for n in ("q", "k", "v", "bias"))
    _, trace = attend(q, k, v, mask=Mask.causal(2), bias=bias, softcap=1.3)
    assert trace.q is q
    assert trace.k is k
    assert trace.bias is bias
    assert len(jax.tree.leaves(trace)) == 5
    assert trace.lse.shape == (2, 3, 5)
    returned = jax.jit(lambda *x: attend(*x, mask=Mask.causal(2), bias=bias, softcap=1.3)[1])(
        q, k, v
    )
    assert (returned.scale, returned.softcap) == (trace.scale, 1.3)
    np.testing.assert_allclose(returned.entropy(), trace.entropy(), atol=1e-6)

    # Stacked by a scan, a statistic of each layer is a vmap over the stack.
    layers = jnp.stack([q, 2 * q])
    _, stacked = jax.lax.scan(lambda c, q: (c, attend(q, k, v)[1]), None, layers)
    wanted = np.stack([attend(x, k, v)[1].entropy() for x in layers])
    np.testing.assert_allclose(jax.vmap(lambda t: t.entropy())(stacked), wanted, atol=1e-6)


def test_half_precision_statistics_are_float32():
    call = Call(S=101)
    arrays = inputs(call, dtype=jnp.bfloat16)
    q, k, v = (jnp.asarray(arrays[n], jnp.bfloat16) for n in "qkv")
    _, trace = attend(q, k, v)
    bias = {"bias": np.zeros((1, 1, 1, 1))}
    p = weights(call, arrays | bias, np.ones((2, 3, 5, 101), bool))
    assert trace.rows().dtype == trace.entropy().dtype == jnp.float32
    np.testing.assert_allclose(trace.rows(), p, atol=1e-6)
    np.testing.assert_allclose(trace.entropy(), -np.sum(p * np.log(p), 3), atol=5e-6)
    position = jnp.broadcast_to(jnp.arange(101.0)[None, :, None], (2, 101, 1))
    wanted = p @ np.arange(101.0)
    np.testing.assert_allclose(trace.expect(position)[..., 0], wanted, atol=1e-4)
