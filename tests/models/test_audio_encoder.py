"""Whisper's front end: convolutions as Flax's, places, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

from crossattn.models.audio_encoder import AudioEncoder, whisper_sinusoids
from crossattn.nn import Stack, presets
from crossattn.nn.layers.convolution import Convolution

SOUND = dataclasses.replace(presets.config("whisper"), order=("self", "mlp"))


@pytest.mark.parametrize(("size", "stride", "count"), [(3, 2, 6), (5, 3, 11)])
def test_convolution_is_that_of_flax(size, stride, count):
    x = jax.random.normal(jax.random.key(0), (2, count, 4))
    ours = Convolution(5, size=size, stride=stride)
    padding = [(size // 2, size // 2)]
    other = linen.Conv(5, (size,), (stride,), padding)
    params = other.init(jax.random.key(1), x)
    params["params"]["bias"] = jnp.arange(5.0)
    wanted = other.apply(params, x)
    np.testing.assert_allclose(ours.apply(params, x), wanted, atol=1e-5)
    assert ours.apply(params, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_convolution_refuses():
    with pytest.raises(ValueError, match=r"Convolution\.size is odd"):
        Convolution(5, size=2)
    layer, x = Convolution(5), jnp.ones((1, 6, 4))
    params = layer.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="an input of width 3, but the parameters were made for w"):
        layer.apply(params, x[..., :3])


def test_encoder_refuses():
    frames = jnp.ones((1, 9, 4))
    reading = AudioEncoder(Stack(1, 8, 2, presets.config("whisper")), length=5)
    with pytest.raises(ValueError, match="an AudioEncoder reads no context"):
        jax.eval_shape(reading.init, jax.random.key(0), frames)
    short = AudioEncoder(Stack(1, 8, 2, SOUND), length=4)
    with pytest.raises(ValueError, match="9 frames, but this encoder has positions for 8"):
        jax.eval_shape(short.init, jax.random.key(0), frames)


def test_places_begin_as_published_sinusoids():
    """As openai/whisper has them: sines of rising wavelengths, then cosines."""
    scale = np.exp(-np.log(10_000) / 3 * np.arange(4))
    angles = np.arange(6)[:, None] * scale
    wanted = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    np.testing.assert_allclose(whisper_sinusoids(6, 8), wanted, atol=1e-6)
