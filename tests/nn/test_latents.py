"""Learned queries: what is hidden from them never matters, and nothing is read of nothing.

What they make of a context is compared with other people's classes in test_presets_against_peers.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.interop import huggingface
from crossattn.nn import presets
from crossattn.nn.block import Block
from crossattn.nn.families.latents import Latents
from crossattn.nn.stack import Stack

B, S, L, M, H, LAYERS = 3, 7, 5, 22, 2, 2
LENGTHS = np.array([S, 4, 0])
HIDDEN = np.arange(S)[None] >= LENGTHS[:, None]


def pooler(preset):
    return Latents(L, Block(M, H, presets.config(preset)))


def resampler(preset, **settings):
    return Latents(L, Stack(LAYERS, M, H, presets.config(preset), **settings), final_norm=True)


def shapes(module):
    return jax.eval_shape(module.init, jax.random.key(0), jnp.ones((B, S, M)))


def filled(module):
    """Random parameters: no bias is zero, no norm trivial."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes(module))


@pytest.fixture(scope="module", params=["coca_pooler", "resampler"])
def out(request):
    """What one compiled program says of a block and of a stack."""
    module = pooler("coca_pooler") if request.param == "coca_pooler" else resampler("resampler")
    context, other = jax.random.normal(jax.random.key(1), (2, B, S, M))
    weight = jax.random.normal(jax.random.key(2), (B, L, M))
    mask = Mask.lengths(key=jnp.asarray(LENGTHS))

    def loss(params, context):
        y, entropy = module.apply(params, context, mask=mask, observe=lambda trace: trace.entropy())
        return (y * weight).sum(), (y, entropy)

    @jax.jit
    def program(params, context):
        differentiate = jax.grad(loss, argnums=(0, 1), has_aux=True)
        none = module.apply(params, context[:, :0])[0]
        return *differentiate(params, context), none

    def run(context):
        gradients, (y, entropy), none = jax.device_get(program(params, context))
        return {"y": y, "entropy": entropy, "gradients": gradients, "none": none}

    params = filled(module)
    poisoned = jnp.where(jnp.asarray(HIDDEN)[..., None], jnp.nan, context)
    return request.param, run(context), run(poisoned), run(other)


def test_what_is_hidden_never_matters(out):
    _, clean, poisoned, _ = out
    for name in ("y", "entropy", "gradients"):
        jax.tree.map(np.testing.assert_array_equal, clean[name], poisoned[name])
    by_context = clean["gradients"][1]
    assert np.isfinite(clean["y"]).all()
    assert not by_context[HIDDEN].any()
    assert by_context[~HIDDEN].any(axis=-1).all()


def test_nothing_is_read_of_nothing(out):
    name, one, _, other = out
    np.testing.assert_array_equal(one["y"][2], other["y"][2])
    np.testing.assert_allclose(one["none"], one["y"][2:].repeat(B, axis=0), atol=1e-5)
    assert not (one["y"][:2] == other["y"][:2]).all(axis=-1).any()
    # A pooler is what it has read; queries of a resampler read each other as well.
    assert one["none"].any() == (name == "resampler")


def test_every_layer_is_observed(out):
    name, one, _, _ = out
    layers = (LAYERS,) if name == "resampler" else ()
    assert one["entropy"].shape == (*layers, B, H, L)


@pytest.mark.parametrize(
    ("preset", "made"),
    [
        *[(preset, pooler) for preset in ("coca_pooler", "map_head", "latent_projector")],
        *[(preset, resampler) for preset in ("resampler", "resampler_masked")],
    ],
)
def test_its_parameters_are_those_that_are_imported(preset, made):
    ours = filled(made(preset))
    tensors = huggingface.tensors(ours, preset)
    again = huggingface.load(tensors, preset, like=shapes(made(preset)))
    jax.tree.map(np.testing.assert_array_equal, ours, again)


def test_the_stream_has_the_dtype_of_the_stack_or_of_the_context():
    for module, dtype in (
        (pooler("map_head"), jnp.bfloat16),
        (resampler("resampler", dtype=jnp.bfloat16), jnp.float32),
    ):
        y, _ = jax.eval_shape(module.apply, shapes(module), jnp.ones((B, S, M), dtype))
        assert y.dtype == jnp.bfloat16
        assert y.shape == (B, L, M)
