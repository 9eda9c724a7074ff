"""Attention over a mesh axis equals one device: outputs, gradients, statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from crossattn import Mask, attend
from crossattn.ops.api import RefusalError
from crossattn.sharding.attention import attend_sharded, explain_sharded
from crossattn.sharding.context_parallel import ContextParallel
from tests.support.cases import Call, assert_close, build, drawn, inputs, kinds

# Few queries of many keys and the reverse, neither a multiple of 4; grouped heads; each kind of
# bias.
CALLS = {
    "long context": Call(H=6, K=3, T=5, S=37, bias="BHTS", softcap=1.7),
    "long queries": Call(H=4, K=4, T=37, S=5, bias="HT"),
    "whole": Call(H=8, K=4, T=8, S=12, bias="BS"),
}
CASES = [
    ("gather-q", "long context"),
    ("gather-q", "long queries"),
    ("ulysses", "long queries"),
    ("ulysses", "whole"),
    ("gather-kv", "long context"),
    ("gather-kv", "whole"),
]
DIFFERENTIABLE = ("q", "k", "v", "bias", "sinks")


def mesh(data=2, context=4, kind=AxisType.Auto):
    return jax.make_mesh((data, context), ("data", "context"), axis_types=(kind,) * 2)


def call(given, mask, how, softcap):
    """`how`: None for one device, or (layout, strategy)."""
    if how is None:
        return attend(**given, mask=mask, softcap=softcap, implementation="xla")
    return attend_sharded(**given, mask=mask, softcap=softcap, layout=how[0], strategy=how[1])


def results_of(trace, columns):
    found = trace.summary(columns)
    T = trace.q.shape[1]
    return {
        "entropy": found.entropy,
        "peak": found.peak,
        "expected": found.expected,
        "rows": trace.weights(jnp.array([[T - 1, 0, 1], [2, 3, 4]])),
    }, {"visible": found.visible, "at": found.peak_key, "valid": trace.valid}


@functools.partial(jax.jit, static_argnames=("how", "softcap", "gradients"))
def evaluate(arrays, leaves, columns=None, *, how, softcap, gradients=True):
    """Outputs or, for columns, statistics, with the gradients."""
    names = [name for name in DIFFERENTIABLE if name in arrays]
    mask = None if leaves is None else build(leaves)

    def results(*values):
        out, trace = call(dict(zip(names, values, strict=True)), mask, how, softcap)
        if columns is not None:
            return results_of(trace, columns)
        return {"out": out, "lse": trace.lse}, {}

    values = [arrays[name] for name in names]
    if not gradients:
        found, seen = results(*values)
        return found | seen
    found, pull, seen = jax.vjp(results, *values, has_aux=True)
    wave = lambda x: jnp.cos(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    slopes = pull({n: arrays.get(n, wave(x)).astype(x.dtype) for n, x in found.items()})
    return found | seen | {f"d{n}": g for n, g in zip(names, slopes, strict=True)}


def run(given, arrays, leaves, how, columns=None, dtype=np.float32, **options):
    arrays = {name: jnp.asarray(x, dtype) for name, x in arrays.items()}
    if columns is not None:
        columns = jnp.asarray(columns, np.float32)
    found = evaluate(arrays, leaves, columns, how=how, softcap=given.softcap, **options)
    return {name: np.asarray(x) for name, x in found.items()}


@functools.cache
def on_one_device(name, kind):
    """(arrays, leaves, what is found), once for all strategies."""
    given = CALLS[name]
    arrays, leaves = inputs(given), kinds(given)[kind]
    return arrays, leaves, run(given, arrays, leaves, None)


def poisoned(given, arrays, seen):
    """NaN in everything that nobody sees, or that sees nothing."""
    group = seen.reshape(given.B, given.K, -1, given.T, given.S)
    keys, queries = group.any((2, 3)).swapaxes(1, 2), seen.any(3).swapaxes(1, 2)
    out = {name: np.where(keys[..., None], arrays[name], np.nan) for name in "kv"}
    out |= {name: np.where(queries[..., None], arrays[name], np.nan) for name in ("q", "out")}
    out["lse"] = np.where(queries.swapaxes(1, 2), arrays["lse"], np.nan)
    return arrays | out


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_one_device_under_every_kind_of_mask(case):
    strategy, name = case
    given, how = CALLS[name], (ContextParallel(mesh()), strategy)
    for kind in kinds(given):
        arrays, leaves, wanted = on_one_device(name, kind)
        found = run(given, arrays, leaves, how)
        seen = drawn(leaves)
        assert_close(found, wanted, arrays, np.float32)
        queries = seen.any(3).swapaxes(1, 2)
        assert not found["out"][~queries].any(), kind
        assert not found["dq"][~queries].any(), kind
        bad = run(given, poisoned(given, arrays, seen), leaves, how)
        for result, x in found.items():
            assert np.array_equal(bad[result], x), (kind, result)


@pytest.mark.parametrize(
    ("name", "gradients"),
    [("long context", True), pytest.param("long queries", False, marks=pytest.mark.slow)],
)
def test_statistics(name, gradients):
    """Sinks among them: weights of the keys then sum to less than 1."""
    given = CALLS[name]
    columns = np.random.default_rng(3).standard_normal((given.B, given.S, 3))
    arrays = inputs(given)
    arrays["sinks"] = np.random.default_rng(5).standard_normal(given.H)
    for kind, leaves in kinds(given).items():
        how = (ContextParallel(mesh()), "gather-q")
        found = run(given, arrays, leaves, how, columns, gradients=gradients)
        wanted = run(given, arrays, leaves, None, columns, gradients=gradients)
        seen = drawn(leaves)
        assert np.array_equal(found["visible"], seen.sum(3)), kind
        assert np.array_equal(found["valid"], seen.any(3)), kind
        assert np.array_equal(found["at"], wanted["at"]), kind
        for result in ("entropy", "peak", "expected", "rows"):
            np.testing.assert_allclose(found[result], wanted[result], atol=3e-6, err_msg=kind)
        slopes = {n: x for n, x in wanted.items() if n in {f"d{name}" for name in arrays}}
        assert_close(found, slopes, arrays, np.float32)


@pytest.mark.parametrize("strategy", ["gather-q", "ulysses", "gather-kv"])
def test_bfloat16(strategy):
    given = CALLS["whole"]
    arrays = inputs(given, dtype=jnp.bfloat16)
    for kind in ("together", "lengths"):
        leaves = kinds(given)[kind]
        wanted = run(given, arrays, leaves, None)
        found = run(given, arrays, leaves, (ContextParallel(mesh()), strategy), dtype=jnp.bfloat16)
        assert found["out"].dtype == jnp.bfloat16
        assert_close(found, wanted, arrays, jnp.bfloat16)


def test_examples_and_heads_over_axes_of_their_own():
    """Manual over all axes, as kernels for TPUs want it; the output lies as the layout says."""
    given = Call(H=4, K=2, T=6, S=10, bias="HTS")
    three = jax.make_mesh((2, 2, 2), ("data", "tensor", "context"), axis_types=(AxisType.Auto,) * 3)
    layout = ContextParallel(three, batch=("data",), heads=("tensor",))
    arrays, leaves = inputs(given), kinds(given)["together"]
    wanted = run(given, arrays, leaves, None)
    assert_close(run(given, arrays, leaves, (layout, "gather-q")), wanted, arrays, np.float32)
    q, k = (jax.ShapeDtypeStruct(arrays[n].shape, np.float32) for n in "qk")
    out, _ = jax.eval_shape(functools.partial(attend_sharded, layout=layout), q, k, k)
    assert out.shape == q.shape


def test_explicit_axes():
    """The functional core where shardings are part of the types."""
    given = Call(T=8, S=12, H=2, K=2)
    explicit = mesh(kind=AxisType.Explicit)
    layout, spec = ContextParallel(explicit, batch=("data",)), PartitionSpec("data", "context")
    arrays = [inputs(given)[n].astype(np.float32) for n in "qkv"]

    def loss(q, k, v, how):
        out, trace = call({"q": q, "k": k, "v": v}, None, how, None)
        return jnp.sum(out**2) + trace.lse.sum(), (out, trace.entropy())

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True), static_argnums=3)
    (_, wanted), wanted_gradients = gradient(*map(jnp.asarray, arrays), None)
    with jax.set_mesh(explicit):
        put = [jax.device_put(x, NamedSharding(explicit, spec)) for x in arrays]
        (_, found), gradients = gradient(*put, (layout, "gather-q"))
    assert found[0].sharding.spec == PartitionSpec("data", "context", None, None)
    assert found[1].sharding.spec == PartitionSpec("data", None, "context")
    for one, other in zip((*found, *gradients), (*wanted, *wanted_gradients), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    with pytest.raises(ValueError, match="'data' of the mesh is Explicit"):
        ContextParallel(explicit)


def test_nothing_to_see_and_nobody_to_see_it():
    layout, x = ContextParallel(mesh()), jnp.ones((2, 3, 4, 5))
    out, trace = attend_sharded(x, x[:, :0], x[:, :0], layout=layout)
    assert not out.any()
    assert not trace.valid.any()
    assert attend_sharded(x[:, :0], x, x, layout=layout)[0].shape == (2, 0, 4, 5)


def test_refusals_say_what_to_write():
    x, wide = jnp.ones((2, 8, 6, 4)), ContextParallel(mesh(8, 1), batch=("data",))
    with pytest.raises(RefusalError, match="K=6 key heads do not divide over 4"):
        attend_sharded(x, x, x, layout=ContextParallel(mesh()), strategy="ulysses")
    with pytest.raises(ValueError, match="unknown strategy 'ring'"):
        attend_sharded(x, x, x, layout=ContextParallel(mesh()), strategy="ring")
    with pytest.raises(ValueError, match="no axis 'tokens'"):
        ContextParallel(mesh(), "tokens")
    with pytest.raises(ValueError, match="named twice"):
        ContextParallel(mesh(), batch=("context",))
    with pytest.raises(ValueError, match="B=2 does not divide over 8"):
        attend_sharded(x, x, x, layout=wide, mask=Mask.causal(0))
    assert "ulysses" in explain_sharded(x, x, x, layout=ContextParallel(mesh()))
