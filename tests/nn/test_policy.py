"""dtype, param_dtype, kernel_init, dropout, implementation and layout reach all parts of a preset.

A preset costs one compilation: outputs with and without dropout, gradients, and the same over eight
devices.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.sharding import AxisType

from crossattn.nn import AttentionConfig, CrossAttention, presets, reading
from crossattn.nn.config import fields_of
from crossattn.sharding import ContextParallel, attend_sharded
from tests.support.families import some_quick
from tests.support.formulas import filled
from tests.support.preset_calls import arguments, streams

B, T, S, M, H = 2, 3, 6, 8, 2
THERE = np.arange(S) < np.array([6, 4])[:, None]
BRAIN, HALF = jnp.bfloat16, jnp.float16


# Stacks; of the others a bare layer, which compiles sooner.
DEEP = ("whisper", "bidirectional", "prefix_lm", "qformer", "coca_decoder", "bottleneck")


def build(name, **policy):
    depth = {"layers": 2} if name in DEEP else {}
    return presets.build(name, width=M, heads=H, **depth, **policy)


def called(module, x, context):
    given, where = arguments(module, x, context, jnp.asarray(THERE))
    return given, where


@pytest.mark.parametrize("name", presets.names())
def test_every_parameter_is_made_as_it_is_said(name):
    """Kernels by `kernel_init`, which says so by a dtype that nothing else has."""
    marked = lambda key, shape, dtype: jnp.zeros(shape, HALF)
    module = build(name, param_dtype=BRAIN, kernel_init=marked, dtype=jnp.float32)
    given, where = called(module, jnp.ones((B, T, M)), jnp.ones((B, S, M)))
    run = lambda: module.init_with_output(jax.random.key(0), *given, **where)
    out, params = jax.eval_shape(run)
    flat = flatten_dict(params["params"], sep="/")
    kernels = {path for path in flat if path.endswith("/kernel")}
    assert len(kernels) >= 4
    assert {flat[path].dtype for path in kernels} == {jnp.dtype(HALF)}
    assert {flat[path].dtype for path in set(flat) - kernels} <= {jnp.dtype(BRAIN)}
    assert jax.tree.leaves(out)[0].dtype == jnp.float32


@pytest.fixture(scope="module")
def mesh():
    kinds = (AxisType.Auto,) * 2
    return jax.make_mesh((1, 8), ("data", "context"), axis_types=kinds)


# With every kind of sublayer and module between them; the others take long for what they add.
PLAIN = {"whisper", "coca_decoder", "mllama", "sam_two_way", "ip_adapter"}


@pytest.mark.parametrize("name", some_quick(presets.names(), PLAIN))
def test_dropout_and_layout(name, mesh):
    rng = np.random.default_rng(0)
    x, context = (jnp.asarray(rng.normal(size=(B, n, M)), jnp.float32) for n in (T, S))
    plain = build(name)
    given, where = called(plain, x, context)
    params = filled(plain, *given, **where)

    def out(module, params, **more):
        given, where = called(module, x, context)
        return streams(module, module.apply(params, *given, **where, **more), THERE)

    def loss(module, params, **more):
        found = out(module, params, **more)
        return sum(jnp.sum(jnp.sin(stream)) for stream in found.values()), found

    def run(params, key):
        dropping, over = build(name, dropout=0.4), build(name, layout=ContextParallel(mesh))
        rngs = {"dropout": key}
        graded = jax.value_and_grad(loss, argnums=1, has_aux=True)
        (_, dropped), gradients = graded(dropping, params, rngs=rngs)
        return {
            "plain": out(plain, params),
            "dropped": dropped,
            "gradients": gradients,
            "layout": out(over, params),
        }

    found = jax.tree.map(np.asarray, jax.jit(run)(params, jax.random.key(7)))
    both = plain, build(name, dropout=0.4)
    programs = (jax.make_jaxpr(lambda p, m=m: out(m, p))(params) for m in both)
    assert len(set(map(str, programs))) == 1
    assert np.abs(found["dropped"]["x"] - found["plain"]["x"]).max() > 1e-2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found["gradients"]))
    for stream, wanted in found["plain"].items():
        bound = 1e-5 * max(1, np.abs(wanted).max())
        np.testing.assert_allclose(found["layout"][stream], wanted, rtol=0, atol=bound)


@pytest.mark.parametrize("name", some_quick(presets.names()))
def test_how_to_compute_reaches_all_attention(name, mesh, monkeypatch):
    """An implementation, a layout, and dropout of weights."""
    calls = []

    def watched(*call, **how):
        calls.append(how)
        return attend_sharded(*call, **how)

    monkeypatch.setattr(reading, "attend_sharded", watched)
    module = build(name, implementation="reference", layout=ContextParallel(mesh), dropout=0.3)
    given, where = called(module, jnp.ones((B, T, M)), jnp.ones((B, S, M)))
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    run = lambda: module.init_with_output(keys, *given, **where)
    assert "shard_map" in str(jax.make_jaxpr(run)())
    assert {how["dropout"][0] for how in calls} == {0.3}
    with pytest.raises(ValueError, match="unknown implementation"):
        jax.eval_shape(
            lambda: build(name, implementation="nothing").init(jax.random.key(0), *given, **where)
        )


def test_attention_has_the_fields_of_its_config():
    """With the same types and defaults: a block makes one of the other."""
    config = {field.name: field for field in dataclasses.fields(AttentionConfig)}
    module = {field.name: field for field in dataclasses.fields(CrossAttention)}
    for name, field in config.items():
        assert (module[name].type, module[name].default) == (field.type, field.default), name
    policy = set(CrossAttention(M, H).policy)
    assert set(module) == {*config, *policy, "width", "heads", "parent", "name"}
    assert fields_of(AttentionConfig()).keys() == config.keys()
