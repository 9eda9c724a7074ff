"""Layers among the tokens of an image, and rotary positions on its grid."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.joining import Streams
from crossattn.models.vision_encoder import VisionEncoder
from crossattn.models.vision_language import VisionLanguageDecoder
from crossattn.nn import presets
from crossattn.nn.layers.patch_encoder import PatchEncoder
from crossattn.sharding import ContextParallel, make_mesh

I, P, F, M, H, L = 2, 9, 3, 8, 2, 3  # noqa: E741 - I counts images


def drawn(module, *inputs, **named):
    """Random values in the shapes of a module, no zeros."""
    shapes = jax.eval_shape(module.init, jax.random.key(1), *inputs, **named)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), jnp.float32), shapes)


class VisionTransformerLayer(nn.Module):
    """Of Flax's own modules alone."""

    @nn.compact
    def __call__(self, x, mask):
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, name=name)
        attention = nn.MultiHeadDotProductAttention(H, qkv_features=M, name="attention")
        x = x + attention(norm("self_norm")(x), mask=mask)
        hidden = nn.gelu(nn.Dense(4 * M, name="up")(norm("mlp_norm")(x)), approximate=False)
        return x + nn.Dense(M, name="down")(hidden)


def of_flax(blocks, layer):
    """Parameters of one of our layers, as Flax's modules have them."""
    own = jax.tree.map(lambda p: p[layer], blocks)
    heads = {name: own["self_attention"][name] for name in ("query", "key", "value")}
    attention = {
        name: {
            "kernel": part["kernel"].reshape(M, H, M // H),
            "bias": part["bias"].reshape(H, M // H),
        }
        for name, part in heads.items()
    }
    out = own["self_attention"]["out"]
    attention["out"] = {**out, "kernel": out["kernel"].reshape(H, M // H, M)}
    return {
        "self_norm": own["self_residual"]["norm"],
        "mlp_norm": own["mlp_residual"]["norm"],
        "attention": attention,
        "up": own["mlp"]["up"],
        "down": own["mlp"]["down"],
    }


def test_layers_are_those_of_a_vision_transformer_of_flax_itself():
    images = np.random.default_rng(2).normal(size=(I, P, F)).astype(np.float32)
    visible = np.ones((I, P), bool)
    visible[0, 4:6] = False
    encoder = VisionEncoder(M, depth=L, heads=H)
    params = drawn(encoder, images)["params"]
    patches = {name: params[name] for name in ("embed", "norm", "position")}

    @jax.jit
    def expected(images, visible):
        x = PatchEncoder(M).apply({"params": patches}, images)
        mask = jnp.broadcast_to(visible[:, None, None], (I, 1, P, P))
        for layer in range(L):
            own = of_flax(params["layers"]["blocks"], layer)
            x = VisionTransformerLayer().apply({"params": own}, x, mask)
        return nn.LayerNorm(epsilon=1e-6).apply({"params": params["last_norm"]}, x)

    found = jax.jit(encoder.apply)({"params": params}, images, visible)
    np.testing.assert_allclose(found[visible], expected(images, visible)[visible], atol=2e-5)


def test_without_layers_it_is_the_encoder_of_patches():
    images = jnp.ones((I, P, F))
    params = drawn(PatchEncoder(M), images)
    assert jax.tree.structure(drawn(VisionEncoder(M), images)) == jax.tree.structure(params)
    np.testing.assert_array_equal(
        VisionEncoder(M).apply(params, images), PatchEncoder(M).apply(params, images)
    )


@pytest.fixture(scope="module")
def decoder():
    """A decoder with encoder layers, its inputs and parameters, and logits with their gradients."""
    config = VisionLanguageConfig(width=M, heads=H, encoder_layers=2)
    module = VisionLanguageDecoder(11, config)
    rng = np.random.default_rng(0)
    inputs = {
        "tokens": rng.integers(0, 11, (I, 5), np.int32),
        "images": rng.normal(size=(I, P, F)).astype(np.float32),
        "visible": np.ones((config.reading_layers, I, P), bool),
        "truth": np.ones((I, 5, P), bool),
        "prompt": np.ones((I, 5), bool),
    }
    inputs["visible"][:, 0, 3:5] = False
    params = drawn(module, **inputs)

    def total(images, inputs):
        logits, _ = module.apply(params, **inputs | {"images": images})
        return logits.sum(), logits

    run = jax.jit(jax.grad(total, has_aux=True))
    return inputs, lambda **changes: run((inputs | changes)["images"], inputs | changes)


def test_what_is_hidden_from_words_is_hidden_from_other_patches(decoder):
    inputs, run = decoder
    gradient, logits = run()
    changed = inputs["images"].copy()
    changed[0, 3:5] += 100
    np.testing.assert_array_equal(run(images=changed)[1], logits)
    assert not gradient[0, 3:5].any()
    assert np.abs(gradient[0, [0, 8]]).min() > 1e-4


def test_what_one_layer_of_words_may_not_read_patches_still_do(decoder):
    inputs, run = decoder
    everything = np.ones_like(inputs["visible"])
    first = everything.copy()
    first[0, 0, 3:5] = False
    one_by_one = [run(visible=seen)[1] for seen in (everything, first, inputs["visible"])]
    for one, other in itertools.pairwise(one_by_one):
        assert np.abs(np.asarray(one) - other)[0].max() > 1e-3
        np.testing.assert_array_equal(one[1], other[1])


def rotary(preset, **fields):
    """A configuration in which words and patches are turned by rows and columns."""
    block = presets.config(preset)
    name = "self_attention" if preset == "prefix_lm" else "cross_attention"
    turned = dataclasses.replace(getattr(block, name), positions="rotary")
    block = dataclasses.replace(block, **{name: turned})
    return VisionLanguageConfig(
        preset=preset, block=block, width=M, heads=H, layers=1, rotary_axes=2, **fields
    )


@pytest.mark.parametrize("preset", ["encoder_decoder_pre", "prefix_lm"])
def test_keys_are_turned_by_their_rows_and_columns(preset):
    """A grid turned into its transpose: the same logits if both axes are exchanged in the heads."""
    config = rotary(preset)
    module = VisionLanguageDecoder(11, config)
    rng = np.random.default_rng(0)
    inputs = {
        "tokens": rng.integers(0, 11, (I, 5), np.int32),
        "visible": np.ones((I, P), bool),
        "truth": np.ones((I, 5, P), bool),
        "prompt": np.ones((I, 5), bool),
    }
    images = rng.normal(size=(I, 3, 3, F)).astype(np.float32)
    params = drawn(module, **inputs, images=images.reshape(I, P, F))["params"]
    # Learned positions would tell the patches apart as well.
    params["encoder"]["position"] = jnp.zeros((P, M))
    run = lambda params, images: jax.jit(module.apply)({"params": params}, images=images, **inputs)
    logits, _ = run(params, images.reshape(I, P, F))
    turned, _ = run(params, images.swapaxes(1, 2).reshape(I, P, F))
    assert np.abs(np.asarray(logits - turned)).max() > 1e-3

    axes = np.arange(M).reshape(H, 2, -1)[:, ::-1].ravel()  # a half of each head for each axis
    turn = lambda path, leaf: (
        leaf[..., axes] if {"query", "key"} & {part.key for part in path} else leaf
    )
    heads = jax.tree_util.tree_map_with_path(turn, params)
    exchanged, _ = run(heads, images.swapaxes(1, 2).reshape(I, P, F))
    np.testing.assert_allclose(exchanged, logits, atol=1e-5)


def test_words_stand_behind_the_image_on_both_axes():
    config = rotary("encoder_decoder_pre")
    nothing = dict.fromkeys(("context", "visible", "truth", "prompt"))
    streams = Streams(
        config, None, np.zeros((2, M)), **nothing, patches=P, observe=lambda trace: None, policy={}
    )
    words, patches = streams.rotary(P)
    assert words.tolist() == [[[3, 3], [4, 4]]]
    assert patches[0, [0, 1, 3, 8]].tolist() == [[0, 0], [0, 1], [1, 0], [2, 2]]
    with pytest.raises(ValueError, match="is for a square of patches, 8 make none: set it to 1"):
        streams.rotary(8)


def test_axes_are_refused_where_there_is_no_grid_to_read():
    with pytest.raises(ValueError, match=r"rotary_axes 2 is for rotary positions: set model.block"):
        VisionLanguageConfig(rotary_axes=2)
    for given in (
        {"contexts": ("image", "boxes")},
        {"connector": "perceiver_encode"},
        {"context_view": "mean"},
        {"image_encoder": "frames"},
    ):
        with pytest.raises(ValueError, match="for words that read the patches of an image them"):
            rotary("encoder_decoder_pre", **given)
    with pytest.raises(ValueError, match=r"model.encoder_layers cannot be negative, got -1"):
        VisionLanguageConfig(encoder_layers=-1)


def test_patches_over_devices_are_the_same():
    mesh = make_mesh("data=2,context=4")
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(I, 8, F)), jnp.float32)
    visible = jnp.ones((I, 8), bool).at[0, 5:].set(False)
    found = []
    for layout in (None, ContextParallel(mesh, batch=("data",))):
        encoder = VisionEncoder(M, depth=2, heads=H, layout=layout)
        params = drawn(VisionEncoder(M, depth=2, heads=H), images)
        where = jax.NamedSharding(mesh, jax.P("data", "context")) if layout else None
        placed = images if where is None else jax.device_put(images, where)

        def total(params, images, encoder=encoder):
            x = encoder.apply(params, images, visible)
            return jnp.where(visible[..., None], jnp.sin(x), 0).sum(), x

        run = jax.jit(jax.grad(total, has_aux=True))
        assert ("shard_map" in str(jax.make_jaxpr(run)(params, placed))) == bool(layout)
        found.append(run(params, placed))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=3e-5), *found)
