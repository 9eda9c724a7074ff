"""Modules whose B, T and S are not known: one exported program for CPU, GPU and TPU."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import export

from crossattn import Mask
from crossattn.models.text_decoder import TextDecoder
from crossattn.nn import CrossAttention, presets, reading
from tests.support.families import some_quick
from tests.support.preset_calls import arguments

PLATFORMS = ("cpu", "cuda", "tpu")
B, T, S = export.symbolic_shape("B, T, S")
M, H, N = 8, 2, 6


@pytest.fixture(autouse=True)
def unchecked():
    """Annotations say that sizes are integers: users are not asked."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def shape(*sizes, dtype="float32"):
    return jax.ShapeDtypeStruct(sizes, dtype)


def exported(function, *given):
    return export.export(jax.jit(function), platforms=PLATFORMS)(*given)


def drawn(rng, b, t, s):
    """A stream, words, a context and which of its tokens are there."""
    x, context = (rng.standard_normal((b, n, w)).astype(np.float32) for n, w in ((t, M), (s, N)))
    return x, rng.integers(0, 11, (b, t)).astype(np.int32), context, rng.random((b, s)) < 0.7


def symbolic():
    x, context = shape(B, T, M), shape(B, S, N)
    return x, shape(B, T, dtype="int32"), context, shape(B, S, dtype="bool")


def of_text():
    model = TextDecoder(presets.build("whisper", width=M, heads=H, layers=1), 11, 300)
    return model, lambda x, words, context, seen: ((words, context), {"mask": Mask.keys(seen)})


def of_cross():
    module = CrossAttention(M, H)
    where = lambda seen: {"mask": Mask.keys(seen) & Mask.causal(0)}
    return module, lambda x, words, context, seen: ((x, context), where(seen))


def of_self():
    where = {"mask": Mask.causal()}
    return CrossAttention(M, H), lambda x, words, context, seen: ((x, x), where)


@pytest.mark.parametrize(
    "made",
    [pytest.param(one, marks=pytest.mark.slow) for one in (of_cross, of_self)] + [of_text],
    ids=lambda made: made.__name__,
)
def test_the_program_gives_what_the_module_gives(made):
    module, given = made()
    sizes = (2, 5, 7), (1, 3, 2)
    first = drawn(np.random.default_rng(0), *sizes[0])
    args, where = given(*first)
    params = jax.jit(lambda: module.init(jax.random.key(0), *args, **where))()

    def run(params, *streams):
        args, where = given(*streams)
        return module.apply(params, *args, **where)[0]

    program = exported(run, jax.tree.map(lambda x: shape(*x.shape), params), *symbolic())
    for size in sizes:
        streams = drawn(np.random.default_rng(1), *size)
        found, wanted = program.call(params, *streams), jax.jit(run)(params, *streams)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", presets.names())
def test_every_preset_has_a_program_for_any_size(name):
    module = presets.build(name, width=M, heads=H, layers=None if name == "ip_adapter" else 2)
    given = lambda x, context, seen: arguments(module, x, context, seen)
    args, where = given(jnp.ones((2, 3, M)), jnp.ones((2, 5, M)), jnp.ones((2, 5), bool))
    params = jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **where))

    def total(params, *streams):
        args, where = given(*streams)
        return jax.tree.leaves(module.apply(params, *args, **where)[0])[0].sum()

    streams = shape(B, T, M), shape(B, S, M), shape(B, S, dtype="bool")
    program = exported(jax.value_and_grad(total), params, *streams)
    assert len(program.out_avals) == 1 + len(jax.tree.leaves(params))


@pytest.mark.parametrize("name", some_quick(presets.names()))
def test_every_attention_of_a_preset_is_of_the_implementation(name, monkeypatch):
    """But for keys that are there besides the context, of which there are few."""
    found = set()

    def attend(*args, implementation=None, **options):
        found.add(implementation)
        return was(*args, implementation=implementation, **options)

    was = reading.attend
    monkeypatch.setattr(reading, "attend", attend)
    depth = {"qformer": 2, "coca_decoder": 2, "ip_adapter": None}.get(name, 1)
    module = presets.build(name, width=M, heads=H, layers=depth, implementation="reference")
    streams = jnp.ones((2, 3, M)), jnp.ones((2, 5, M)), jnp.ones((2, 5), bool)
    args, where = arguments(module, *streams)
    jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **where))
    assert found - {None} == {"reference"}
    assert None not in found or name in ("null_key", "registers")


def test_self_attention_takes_an_implementation():
    x = jnp.ones((1, 3, M))
    with pytest.raises(ValueError, match="unknown implementation 'dens'"):
        CrossAttention(M, H, implementation="dens").init(jax.random.key(0), x, x)
