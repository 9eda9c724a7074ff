"""Every preset: what is hidden never matters, nothing is read of nothing, steps equal the whole.

A preset costs two compilations: one program of values and gradients, spread over 8 devices, is run
on different data; the other does the same layer by layer, step by step, with less memory and in
half precision, on one device.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from crossattn.nn import presets
from crossattn.nn.families.prefix import Prefix
from tests.support.families import SOME, some_quick
from tests.support.formulas import filled
from tests.support.preset_calls import (
    always_there,
    arguments,
    deaf,
    loop,
    step_by_step,
    whole,
    without_context,
    writes,
)

B, T, S, M, H = 8, 3, 5, 12, 2
# Compiling takes all the time: a plain run takes a loop, steps, remat and half precision of these
# only, which have every kind of sublayer between them. WRITE_PRESETS=1 takes them of all.
EVERY = "WRITE_PRESETS" in os.environ
DEEP = ("whisper", "merged", "mllama", "bidirectional", "prefix_lm", "qformer", "coca_decoder")
LENGTHS = np.array([5, 2, 0, 4, 3, 1, 5, 2])
THERE = np.arange(S) < LENGTHS[:, None]
NONE = np.zeros_like(THERE)
ORDER = np.array([3, 1, 4, 0, 2])


def build(name, **policy):
    layers = 2 if EVERY or name in DEEP else 1
    depth = {} if name == "ip_adapter" else {"layers": layers}
    return presets.build(name, width=M, heads=H, **depth, **policy)


@pytest.fixture(scope="module")
def given():
    rng = np.random.default_rng(0)
    x, context, other = (rng.normal(size=(B, size, M)).astype(np.float32) for size in (T, S, S))
    return x, context, other


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=5e-5, rtol=5e-5)


def differentiated(module):
    """Streams, and the gradients of a loss of them."""

    def loss(params, x, context, keys):
        out = whole(module, params, x, context, keys)
        # A plain sum of normed features would be constant.
        return sum(jnp.sum(jnp.sin(stream)) for stream in out.values()), out

    def program(*inputs):
        gradients, out = jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(*inputs)
        return out, gradients

    return program


@dataclasses.dataclass
class Case:
    """A preset, its parameters, and two programs."""

    name: str
    module: Any
    params: Any
    run: Any
    alone: dict

    def __call__(self, *data, params=None):
        out = self.run(self.params if params is None else params, *data)
        return jax.tree.map(np.asarray, out)


# encoder_decoder_pre is a block as whisper is; the other two take longest to compile.
QUICK = (SOME | {*DEEP}) - {"encoder_decoder_pre", "qformer", "coca_decoder"}


@pytest.fixture(scope="module", params=some_quick(presets.names(), QUICK))
def case(request, given):
    name, (x, context, _) = request.param, given
    module = build(name)
    inputs, where = arguments(module, jnp.asarray(x), jnp.asarray(context), jnp.asarray(THERE))
    params = filled(module, *inputs, **where)
    if name == "latent_projector":
        # It has no norm: with these weights, gradients of 100 would round by 0.02.
        params = jax.tree.map(lambda leaf: leaf / 2, params)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    program = jax.jit(
        differentiated(module), in_shardings=(NamedSharding(mesh, PartitionSpec()), *[spread] * 3)
    )

    @jax.jit
    def alone(*inputs):
        out = {"loop": loop(module, *inputs)}
        out["remat"] = differentiated(build(name, remat="everything"))(*inputs)[1]
        out["half"] = whole(build(name, dtype=jnp.bfloat16), *inputs)
        if writes(module):
            out["steps"] = step_by_step(module, *inputs)
        return out

    found = {}
    if name != "ip_adapter" and (EVERY or name in DEEP):
        found = jax.tree.map(np.asarray, alone(params, x, context, THERE))
    yield Case(name, module, params, program, found)
    jax.clear_caches()


@pytest.fixture(scope="module")
def clean(case, given):
    return case(*given[:2], THERE)


@pytest.fixture
def alone(case):
    if not case.alone:
        pytest.skip("with WRITE_PRESETS=1 only, or one attention, not a stack")
    return case.alone


def test_what_is_hidden_never_matters(case, clean, given):
    x, context, _ = given
    poisoned = case(x, np.where(THERE[..., None], context, np.float32(np.nan)), THERE)
    jax.tree.map(np.testing.assert_array_equal, poisoned, clean)
    gradient = clean[1][2]
    assert not gradient[~THERE].any()
    assert np.all(np.abs(gradient[THERE]).max(-1) > 1e-6)


def test_the_order_of_the_context_never_matters(case, clean, given):
    x, context, _ = given
    out, gradients = case(x, context[:, ORDER], THERE[:, ORDER])
    for name, stream in clean[0].items():
        wanted = stream[:, ORDER] if name == "context" else stream
        near(out[name], wanted)
    np.testing.assert_allclose(gradients[1], clean[1][1], atol=1e-3, rtol=1e-3)


def test_an_empty_context_leaves_exactly_the_residual_path(case, clean, given):
    x, context, other = given
    (empty, _), (same, _) = case(x, context, NONE), case(x, other, NONE)
    jax.tree.map(np.testing.assert_array_equal, empty, same)
    none = LENGTHS == 0
    np.testing.assert_array_equal(clean[0]["x"][none], empty["x"][none])
    if always_there(case.module):
        return  # There is something to read besides the context.
    if case.name == "ip_adapter":
        wanted = np.zeros_like(x)
    elif isinstance(getattr(case.module, "layer", None), Prefix):
        wanted = without_context(case.module, case.params, x)
        near(empty["x"], wanted)
        return
    elif case.name == "mllama":
        wanted = x  # Its feed-forward layer is left out as well.
    else:
        wanted = case(x, context, THERE, params=deaf(case.params))[0]["x"]
    np.testing.assert_array_equal(empty["x"], wanted)
    assert np.abs(clean[0]["x"] - empty["x"])[~none].max() > 1e-3


def test_a_loop_on_one_device_equals_a_scan_on_eight(alone, clean):
    if not alone["loop"]:
        pytest.skip("its layers are not scanned, or by a stack that is compared in other presets")
    jax.tree.map(near, alone["loop"], clean[0])


def test_less_memory_and_half_precision_change_little(alone, clean):
    pairs = zip(jax.tree.leaves(alone["remat"]), jax.tree.leaves(clean[1]), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))
    for name, stream in clean[0].items():
        scale = np.abs(stream).max()
        np.testing.assert_allclose(alone["half"][name], stream, atol=0.06 * scale)


def test_tokens_one_by_one_equal_all_at_once(alone, clean):
    if "steps" not in alone:
        pytest.skip("what x reads depends on x as a whole")
    near(alone["steps"], clean[0]["x"])


@pytest.mark.parametrize("name", ["flamingo", "idefics", "mllama"])
def test_a_closed_gate_is_the_identity(name, given):
    x, context, _ = given
    block = presets.build(name, width=M, heads=H)
    y, _ = jax.jit(block.init_with_output)(jax.random.key(0), x, context)[0]
    np.testing.assert_array_equal(y, x)


def test_products_may_be_kept(given):
    """The other policy, on one design."""
    x, context, _ = given
    module = build("mllama")
    params = filled(module, jnp.asarray(x), jnp.asarray(context))
    run = lambda module: jax.jit(differentiated(module))(params, x, context, THERE)[1]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4, rtol=1e-4),
        run(build("mllama", remat="all but products")),
        run(module),
    )


@pytest.mark.parametrize("name", some_quick(presets.names()))
def test_seven_billion_parameters_have_shapes(name):
    sizes = {"width": 4096, "heads": 32}
    depth = {} if name == "ip_adapter" else {"layers": 32, "dtype": jnp.bfloat16}
    module = presets.build(name, **sizes, **depth)
    x = jax.ShapeDtypeStruct((1, 256, 4096), jnp.bfloat16)
    keys = jax.ShapeDtypeStruct((1, 256), bool)

    def start(x, keys):
        given, where = arguments(module, x, x, keys)
        return module.init_with_output(jax.random.key(0), *given, **where)

    out, params = jax.eval_shape(start, x, keys)
    assert jax.tree.leaves(out)[0].dtype == jnp.bfloat16
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) > (1e9 if depth else 1e7)


def test_a_preset_says_in_what_it_differs():
    assert presets.differences("perceiver_encode", "perceiver_decode") == [
        "cross_residual: None -> ResidualConfig(epsilon=1e-05, skip=False)"
    ]
    assert presets.differences("whisper", "qformer")[0] == "module: Block -> QFormer"


def test_what_cannot_be_built_is_said_in_one_line():
    with pytest.raises(ValueError, match=r"unknown preset 'flamenco', did you mean 'flamingo'\?"):
        presets.build("flamenco", width=M, heads=H)
    with pytest.raises(ValueError, match="remat: a field of stacks, give layers as well"):
        presets.build("t5", width=M, heads=H, remat="everything")
    with pytest.raises(ValueError, match="ip_adapter is one attention"):
        presets.build("ip_adapter", width=M, heads=H, layers=2)
