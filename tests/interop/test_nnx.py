"""Our modules inside NNX: the same outputs and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from crossattn import Mask
from crossattn.interop.nnx import to_nnx
from crossattn.nn import CrossAttention, presets
from crossattn.nn.families.two_stream import TwoStreams
from tests.support.families import some_quick
from tests.support.preset_calls import arguments

M, H = 12, 2
NAMES = ("coca_pooler", "mllama", "bidirectional")


def built(name):
    """A module, its inputs, random parameters, and a loss of what it returns."""
    keys = jax.random.split(jax.random.key(1), 2)
    x, context = jax.random.normal(keys[0], (3, 5, M)), jax.random.normal(keys[1], (3, 7, M))
    if presets.get(name).family == "two_stream":
        module, inputs = TwoStreams(M, H, presets.config(name)), ((x, context),)
        mask = {"context_mask": Mask.lengths(key=jnp.array([7, 2, 0]))}
    else:
        module, inputs = presets.build(name, width=M, heads=H), (x, context)
        mask = {"mask": Mask.lengths(key=jnp.array([7, 2, 0]))}
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **mask))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)
    return module, inputs, mask, params


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients_are_exact(name):
    module, inputs, mask, params = built(name)
    model = to_nnx(module, *inputs, rngs=nnx.Rngs(0), params=params, **mask)

    def loss(out):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out[0])), out[0]

    def functional(params, inputs):
        return loss(module.apply(params, *inputs, **mask))

    def stateful(model, inputs):
        return loss(model(*inputs, **mask))

    # Two programs: inside one, XLA may join the operations of one differently than the other's.
    one = jax.jit(jax.grad(functional, argnums=(0, 1), has_aux=True))
    other = nnx.jit(nnx.grad(stateful, argnums=(0, 1), has_aux=True))
    (expected, out), (found, same) = one(params, inputs), other(model, inputs)
    pairs = (
        (out, same),
        (expected[0]["params"], nnx.to_pure_dict(found[0])),
        (expected[1], found[1]),
    )
    for one, other in pairs:
        assert jax.tree.structure(one) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)
    assert float(jnp.abs(out[0]).sum() if isinstance(out, tuple) else jnp.abs(out).sum()) > 0


@pytest.mark.parametrize("name", some_quick(presets.names()))
def test_every_preset_goes_through(name):
    layers = {} if name == "ip_adapter" else {"layers": 2}
    module = presets.build(name, width=M, heads=H, **layers)
    x, context = jnp.ones((3, 5, M)), jnp.ones((3, 7, M))
    inputs, where = arguments(module, x, context, jnp.ones((3, 7), bool))

    def through():
        model = to_nnx(module, *inputs, rngs=nnx.Rngs(0), **where)
        return model(*inputs, **where), nnx.to_pure_dict(nnx.state(model, nnx.Param))

    out, params = jax.eval_shape(through)
    assert x.shape in [leaf.shape for leaf in jax.tree.leaves(out)]
    assert "kernel" in str(jax.tree.structure(params))


def test_methods_and_initial_values():
    module, inputs = CrossAttention(width=4, heads=2), (jnp.ones((2, 3, 4)), jnp.ones((2, 5, 7)))
    model = to_nnx(module, *inputs, rngs=nnx.Rngs(0))
    params = {"params": nnx.to_pure_dict(nnx.state(model, nnx.Param))}
    assert all(np.std(params["params"][name]["kernel"]) > 0.1 for name in ("query", "key", "value"))
    expected = module.apply(params, inputs[1], method="project")
    np.testing.assert_array_equal(model.project(inputs[1]).values, expected.values)


def test_other_parameters_are_refused():
    module, inputs, mask, params = built("mllama")
    norm = params["params"]["cross_attention"].pop("key_norm")
    with pytest.raises(ValueError, match="one side only: cross_attention/key_norm/scale"):
        to_nnx(module, *inputs, rngs=nnx.Rngs(0), params=params, **mask)
    params["params"]["cross_attention"]["key_norm"] = {"scale": norm["scale"][:1]}
    with pytest.raises(ValueError, match=r"1 parameters have other shapes: .* is \(1,\), the"):
        to_nnx(module, *inputs, rngs=nnx.Rngs(0), params=params, **mask)
