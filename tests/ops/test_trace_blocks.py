import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from crossattn import Mask, attend
from crossattn.ops.kernels.block_sizes import BlockSizes
from crossattn.ops.trace import trace as trace_module
from crossattn.ops.trace.statistics import sums
from crossattn.ops.trace.trace import AttentionTrace
from tests.support.cases import Call, inputs

MIB = 2**20


def everything(trace, columns):
    """One number from all that a gradient can reach."""
    summary = trace.summary(columns)
    return sum(jnp.sum(x) for x in (summary.entropy, summary.peak, summary.expected))


def shapes(T, S, R=3):
    q, k = (jax.ShapeDtypeStruct((1, n, 8, 64), jnp.float32) for n in (T, S))
    bias, columns, lse = (
        jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 1, 1, S), (1, S, R), (1, 8, T))
    )
    return q, k, bias, columns, lse


def avals(jaxpr):
    for equation in jaxpr.eqns:
        yield from (v.aval for v in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=callable):
            inner = getattr(inner, "jaxpr", inner)  # a closed one has constants beside it
            if hasattr(inner, "eqns"):
                yield from avals(inner)


@pytest.mark.parametrize(("T", "S"), [(17, 65537), (65537, 17)])
@pytest.mark.parametrize("gradient", [False, True])
def test_no_array_of_all_pairs(T, S, gradient):
    """Nor a heads-first copy of the longer side, for the blocks of any platform."""

    def total(q, k, bias, columns, lse):
        mask = Mask.causal(S - T) & Mask.lengths(key=jnp.array([S - 3]))
        return everything(AttentionTrace(q, k, mask, bias, lse, 0.125, 2.0), columns)

    f = jax.grad(total, (0, 1, 2, 3)) if gradient else total
    found = [a.shape for a in avals(jax.make_jaxpr(f)(*shapes(T, S)).jaxpr)]
    assert (1, 8, T) in found
    assert not [shape for shape in found if T in shape and S in shape]
    longer = max(T, S)
    assert not [shape for shape in found if len(shape) == 4 and shape[2:] == (longer, 64)]
    assert gradient or max(map(math.prod, found)) < longer * 8 * 64 / 2


@pytest.mark.parametrize(("T", "S"), [(16, 65536), (65536, 16)])
def test_memory_of_an_entropy_loss(T, S):
    """Forward + backward, beyond inputs, outputs and gradients: 8 MiB and 16 keys. With many
    queries that is the lse and three numbers more for each query and head."""
    q, k, *_ = shapes(T, S)

    def both(q, k, v):
        out, trace = attend(q, k, v)
        return out, trace.entropy().mean()

    def program(q, k, v, dout):
        (out, entropy), pull = jax.vjp(both, q, k, v)
        return out, entropy, pull((dout, jnp.float32(0.1)))

    compiled = jax.jit(program).lower(q, k, k, q).compile()
    assert compiled.memory_analysis().temp_size_in_bytes <= 8 * MIB + 4 * (16 * 8 * 64)


def measured(f, *arrays):
    compiled = jax.jit(f).lower(*arrays).compile()
    return compiled.as_text().count(" while("), compiled.cost_analysis()["flops"]


def test_one_pass_for_all_and_nothing_for_what_is_not_asked():
    q, k, _, columns, lse = shapes(19, 2311)
    trace = lambda q, k, lse: AttentionTrace(q, k, Mask(), None, lse, 0.125, None)
    asked = {
        "all": lambda q, k, lse, c: trace(q, k, lse).summary(c),
        "entropy": lambda q, k, lse, c: trace(q, k, lse).entropy(),
        "peak": lambda q, k, lse, c: trace(q, k, lse).peak(),
        "expect": lambda q, k, lse, c: trace(q, k, lse).expect(c),
    }
    found = {name: measured(f, q, k, lse, columns) for name, f in asked.items()}
    loops, flops = zip(*found.values(), strict=True)
    assert set(loops) == {1}
    assert max(flops[1:]) < 0.99 * flops[0] < 0.5 * sum(flops[1:])


BLOCKS = (BlockSizes(2, 3, 5, 4), BlockSizes(1, 1, 17, 8), BlockSizes(2, 1, 17, 19), None)


def results(call, blocks, mask):
    """Sums and gradients of float64 arrays, as a flat list."""
    arrays = inputs(call)
    given = [jnp.asarray(arrays[n]) for n in ("q", "k", "bias")]
    given.append(jnp.asarray(np.random.default_rng(1).standard_normal((call.B, call.S, 2))))
    shift = jnp.asarray(arrays["lse"])

    def total(q, k, bias, columns):
        out = sums(q, k, mask, bias, shift, columns, scale=0.3, softcap=None, blocks=blocks)
        floats = (out.total, out.entropy, jnp.where(out.visible > 0, out.top, 0), out.columns)
        return sum(jnp.sum(jnp.cos(x)) for x in floats), out

    return jax.tree.leaves(jax.jit(jax.grad(total, (0, 1, 2, 3), has_aux=True))(*given))


def test_blocks_of_any_size_agree(x64):
    """Several examples and heads at once too, a ragged end of either side, and skipped blocks."""
    call = Call(H=6, K=3, T=17, S=19, bias="HTS")
    mask = Mask.lengths(query=jnp.array([17, 4]), key=jnp.array([19, 2])) & Mask.window(6, 1, 2)
    first, *others = (results(call, blocks, mask) for blocks in BLOCKS)
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.slow
def test_derivatives_of_each_alone(x64, monkeypatch):
    """What a statistic does not need takes no part in its passes, and moves no derivative."""
    monkeypatch.setattr(trace_module, "sums", partial(sums, blocks=BlockSizes(1, 1, 3, 7)))
    call = Call(B=1, H=2, K=1, T=5, S=11, D=3, bias="TS")
    arrays = [jnp.asarray(inputs(call)[n]) for n in ("q", "k", "bias")]
    arrays.append(jnp.asarray(np.random.default_rng(1).standard_normal((1, 11, 2))))
    mask = Mask.lengths(query=jnp.array([4]), key=jnp.array([9]))

    def alone(trace, columns):
        entropies = trace.entropy(), trace.entropy(normalized=True)
        return *entropies, trace.peak()[0], trace.expect(columns)

    def together(trace, columns):
        found = trace.summary(columns)
        return found.entropy, found.normalized_entropy, found.peak, found.expected

    def derivatives(f):
        def loss(q, k, bias, columns):
            return sum(jnp.sum(jnp.sin(3 * x)) for x in f(traced(q, k, bias), columns))

        traced = lambda q, k, bias: attend(q, k, k, mask=mask, bias=bias)[1]
        gradients = lambda *x: jax.grad(loss, (0, 1, 2, 3))(*x)
        along = lambda *x: sum(
            jnp.sum(jnp.cos(a) * g) for a, g in zip(arrays, gradients(*x), strict=True)
        )
        return jax.jit(lambda *x: (gradients(*x), jax.grad(along, (0, 1, 2, 3))(*x)))(*arrays)

    for got, want in zip(*map(jax.tree.leaves, map(derivatives, (alone, together))), strict=True):
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(got, want, atol=1e-12 * np.abs(want).max())


def test_a_loss_that_no_statistic_moves():
    x = jnp.ones((1, 3, 2, 5))
    total = lambda q: (q.sum(), attend(q, x, x)[1].summary().visible)
    gradient, visible = jax.grad(total, has_aux=True)(x)
    assert np.array_equal(gradient, x)
    assert np.array_equal(visible, np.full((1, 2, 3), 3))


def test_the_first_of_equal_keys_is_the_peak():
    """Also where blocks that are wholly visible are visited before those that are not."""
    q, k = jnp.ones((1, 1, 2, 3)), jnp.ones((1, 23, 2, 3))
    mask = Mask.keys(jnp.arange(23)[None] >= 2)
    shift = jnp.full((1, 2, 1), 3.0)
    out = sums(
        q, k, mask, None, shift, None, scale=1.0, softcap=None, blocks=BlockSizes(1, 1, 1, 4)
    )
    assert np.array_equal(out.at, np.full((1, 2, 1), 2))
    assert np.array_equal(out.visible, np.full((1, 2, 1), 21))


@pytest.mark.parametrize(("T", "S"), [(0, 5), (5, 0)])
def test_nothing_to_look_at(T, S):
    q, k = jnp.ones((2, T, 3, 4)), jnp.ones((2, S, 3, 4))
    summary = attend(q, k, k)[1].summary(jnp.ones((2, S, 2)))
    assert summary.expected.shape == (2, 3, T, 2)
    assert not any(np.asarray(x).any() for x in summary)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(platform):
    q, k, bias, columns, lse = shapes(16, 65536)
    f = lambda q, k, b, c, lse: everything(
        AttentionTrace(q, k, Mask.causal(7), b, lse, 0.125, None), c
    )
    traced = jax.jit(jax.grad(f, (0, 1, 2, 3))).trace(q, k, bias, columns, lse)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "tensor<1x8x16x4096xf32>" in text  # its blocks are wide


def test_inside_shard_map():
    """Over batch and heads, under check_vma: what is not sharded gets the sum of its gradients."""
    call = Call(B=4, H=2, K=2, T=11, S=13, bias="HS")
    arrays = {n: jnp.asarray(x, jnp.float32) for n, x in inputs(call).items()}
    lengths = jnp.array([13, 0, 7, 3])
    columns = jnp.asarray(np.random.default_rng(1).standard_normal((1, 13, 2)), jnp.float32)
    lse = attend(*(arrays[n] for n in "qkv"), bias=arrays["bias"])[1].lse
    rule = partial(sums, scale=0.3, softcap=1.3, blocks=BlockSizes(1, 1, 8, 8))

    def total(q, k, bias, columns, lengths, lse):
        columns = jnp.broadcast_to(columns, (len(q), *columns.shape[1:]))
        out = rule(q, k, Mask.lengths(key=lengths), bias, lse, columns)
        return sum(jnp.sum(jnp.sin(x)) for x in (out.total, out.entropy, out.columns))

    def mapped(*x):
        local = lambda *x: jax.lax.psum(total(*x), ("x", "y"))
        spec = {
            "q": PartitionSpec("x", None, "y"),
            "bias": PartitionSpec(None, "y"),
            "columns": PartitionSpec(),
            "lengths": PartitionSpec("x"),
            "lse": PartitionSpec("x", "y"),
        }
        specs = tuple(spec[n] for n in ("q", "q", "bias", "columns", "lengths", "lse"))
        axes = {"axis_types": (jax.sharding.AxisType.Auto,) * 2}
        mesh = jax.make_mesh((4, 2), ("x", "y"), **axes)
        return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=PartitionSpec())(*x)

    given = (arrays["q"], arrays["k"], arrays["bias"], columns, lengths, lse)
    found, wanted = (jax.jit(jax.grad(f, (0, 1, 2, 3)))(*given) for f in (mapped, total))
    for got, want in zip(found, wanted, strict=True):
        assert np.abs(want).max() > 1e-2
        np.testing.assert_allclose(got, want, atol=1e-5)
