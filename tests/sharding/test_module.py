"""Modules whose tokens lie over a mesh axis equal those on one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from crossattn import Mask, attend
from crossattn.nn import BidirectionalAttention, CrossAttention, ExtraKeys, Logits
from crossattn.nn.families.ip_adapter import DecoupledAttention
from crossattn.sharding import ContextParallel, attend_sharded, explain_sharded
from crossattn.sharding.wire import wire_bytes
from tests.support.families import some_quick

B, T, S, N, M, H = 2, 5, 37, 3, 12, 4
LENGTHS = np.array([S - 2, 3])


def mesh(data=2, context=4):
    kinds = (AxisType.Auto,) * 2
    devices = jax.devices()[: data * context]
    return jax.make_mesh((data, context), ("data", "context"), axis_types=kinds, devices=devices)


def module(**fields):
    return CrossAttention(M, H, **fields)


@pytest.fixture(scope="module")
def streams():
    keys = jax.random.split(jax.random.key(0))
    return jax.random.normal(keys[0], (B, T, M)), jax.random.normal(keys[1], (B, S, N))


def filled(module, *streams):
    """Random parameters: no bias, no gate and no spare key is zero."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(1), *streams))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), shapes)


@functools.partial(jax.jit, static_argnums=0)
def evaluate(module, params, x, context):
    """What a module makes and sees, one step over its projected context, and all gradients."""
    mask = Mask.lengths(key=jnp.asarray(LENGTHS))
    # What an example sees of a token of each kind.
    columns = jnp.cos(jnp.arange(B * S * 2, dtype=jnp.float32)).reshape(B, S, 2)

    def results(params, x, context):
        y, trace = module.apply(params, x, context, mask=mask)
        seen = trace.summary(columns)
        projected = module.apply(params, context, mask=mask, method="project")
        step, _ = module.apply(params, x[:, :1], projected)
        found = {
            "y": y,
            "step": step,
            "lse": trace.lse,
            "rows": trace.weights(jnp.array([4, 0, 3])),
        }
        found |= {"entropy": seen.entropy, "peak": seen.peak, "expected": seen.expected}
        return found, {"visible": seen.visible, "at": seen.peak_key, "valid": trace.valid}

    found, pull, seen = jax.vjp(results, params, x, context, has_aux=True)
    waves = lambda leaf: jnp.sin(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)
    dparams, dx, dcontext = pull(jax.tree.map(waves, found))
    return found, seen, {"params": dparams, "x": dx, "context": dcontext}


def assert_equal(found, wanted):
    """To the rounding of float32, relative to the largest entry of each array."""
    flat, _ = jax.tree_util.tree_flatten_with_path(wanted)
    for (path, leaf), other in zip(flat, jax.tree.leaves(found), strict=True):
        bound = 1e-5 * max(1, float(np.abs(leaf).max()))
        np.testing.assert_allclose(other, leaf, rtol=0, atol=bound, err_msg=str(path))


CASES = {
    "plain": ({}, ()),
    # Examples over data by the layout; the others leave that axis to the compiler.
    "spare keys": (
        {
            "key_value_heads": 2,
            "logits": Logits(softcap=1.7, norm="rms"),
            "extra_keys": ExtraKeys(bias_kv=True, zero_attn=True, sink=True, registers=3),
            "head_gate": True,
        },
        ("data",),
    ),
    "competing queries": ({"logits": Logits(competition="queries")}, ()),
    "talking heads": ({"logits": Logits(talking=True)}, ("data",)),
}


@pytest.mark.parametrize("case", some_quick(CASES, ("spare keys", "competing queries")))
def test_a_layout_changes_no_result(case, streams):
    fields, batch = CASES[case]
    alone = module(**fields)
    over = alone.clone(layout=ContextParallel(mesh(), batch=batch))
    params = filled(alone, *streams)
    wanted, found = (evaluate(it, params, *streams) for it in (alone, over))
    assert_equal(found, wanted)
    assert len(jax.tree.leaves(wanted[2]["params"])) >= 8
    assert "shard_map" in str(jax.make_jaxpr(over.apply)(params, *streams))
    hidden = np.arange(S)[None, :, None] >= LENGTHS[:, None, None]
    assert hidden.any()
    x, context = streams
    again = evaluate(over, params, x, jnp.where(hidden, jnp.nan, context))
    jax.tree.map(np.testing.assert_array_equal, again, found)


def test_one_device_is_attend_to_the_last_bit(streams):
    q, k = (jax.random.normal(jax.random.key(2), (B, n, H, 8)) for n in (T, S))
    options = {"mask": Mask.causal(3), "softcap": 1.3}
    out, trace = attend(q, k, k, **options)
    one, own = attend_sharded(q, k, k, layout=ContextParallel(mesh(1, 1)), **options)
    np.testing.assert_array_equal(one, out)
    np.testing.assert_array_equal(own.lse, trace.lse)


def test_other_modules_read_over_a_layout(streams):
    x, context = streams
    layout = ContextParallel(mesh(), batch=("data",))
    calls = {
        "bidirectional": (
            BidirectionalAttention(M, H, context_width=N),
            {"mask": Mask.lengths(key=jnp.asarray(LENGTHS)), "context_to_x": Mask()},
            (x, context),
        ),
        "decoupled": (DecoupledAttention(M, H), {"scales": [0.5]}, (x, [context, context[:, :7]])),
    }
    for name, (alone, how, streams) in calls.items():
        init = functools.partial(alone.init, **how)
        shapes = jax.eval_shape(init, jax.random.key(1), *streams)
        params = jax.tree.map(lambda p: jnp.full(p.shape, 0.1).at[0].set(-0.3), shapes)
        apply = lambda one, s=streams, h=how: jax.jit(lambda p: one.apply(p, *s, **h)[0])
        one, over = apply(alone), apply(alone.clone(layout=layout))
        assert "shard_map" in str(jax.make_jaxpr(over)(params)), name
        np.testing.assert_allclose(over(params), one(params), atol=1e-5, err_msg=name)


def test_long_contexts_stay_where_they_are():
    """Neither training nor a step over what is projected moves keys."""
    layout, rows, many = ContextParallel(mesh(), batch=("data",)), 2 * B, 512
    one = module(layout=layout)
    x, context = jnp.ones((rows, 1, M)), jnp.ones((rows, many, M))
    params = filled(one, x, context)
    projected = jax.eval_shape(lambda: one.apply(params, context, method="project"))

    def placed(leaf, *axes):
        sharding = NamedSharding(layout.mesh, PartitionSpec(*axes))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    projected = jax.tree.map(lambda leaf: placed(leaf, "data", None, "context"), projected)
    loss = lambda params, context: jnp.sum(one.apply(params, x, context)[0] ** 2)
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    mine = rows * many * M * 4 * 2 // 8  # bytes of the keys and values of one of 8 devices
    for lowered in (
        gradient.lower(params, placed(context, "data", "context")),
        jax.jit(lambda context: one.apply(params, x, context)[0]).lower(projected),
    ):
        assert 0 < sum(wire_bytes(lowered.compile().as_text()).values()) < mine / 4
    shape = lambda n: jax.ShapeDtypeStruct((rows, n, H, M // H), jnp.float32)
    said = explain_sharded(shape(1), shape(many), shape(many), layout=layout)
    assert "chosen" in next(line for line in said.splitlines() if line.startswith("gather-q"))


def test_refusals_say_what_to_write(streams):
    x = jnp.ones((B, 8, H, 4))
    call = functools.partial(attend_sharded, x, x, x, layout=ContextParallel(mesh()))
    with pytest.raises(ValueError, match=r"dropout rate must be in \[0, 1\), got 1.5"):
        call(dropout=(1.5, jax.random.key(0)))
    with pytest.raises(TypeError, match=r"no option 'soft_cap': write one of 'scale', 'softcap'"):
        call(soft_cap=1.0)
    with pytest.raises(TypeError, match="softcap is a Python number"):
        jax.jit(lambda c: call(softcap=c)[0])(1.0)
    wide = module(layout=ContextParallel(mesh(8, 1), batch=("data",)))
    with pytest.raises(ValueError, match="B=2 does not divide over 8 devices"):
        jax.eval_shape(wide.init, jax.random.key(0), *streams)
