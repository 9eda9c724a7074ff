"""Activations of a vision-language decoder are captured, patched and cut, layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.models.config import VisionLanguageConfig
from crossattn.models.interventions import (
    Activations,
    capture,
    maps_and_gradients,
    patch,
)
from crossattn.models.vision_language import VisionLanguageDecoder
from tests.models.test_vision_language import fields, filled

B, T, P, V, L, H = 2, 5, 7, 11, 2, 2
ALL = jnp.ones((1, 1, 1, 1), bool)
AT = T - 1  # the position that is scored


def inputs(seed):
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "tokens": jax.random.randint(keys[0], (B, T), 0, V),
        "images": jax.random.normal(keys[1], (B, P, 3)),
        "truth": jax.random.bernoulli(keys[2], 0.3, (B, T, P)),
        "prompt": jnp.broadcast_to(jnp.arange(T) < 3, (B, T)),
        "boxes": jax.random.normal(keys[3], (B, 2, 3)),
        "visible": jnp.ones((B, P), bool).at[0, 3].set(False),
    }


def score(logits):
    return jax.nn.log_softmax(logits)[:, AT, 4]


class Model:
    """One program for everything: what is replaced is data."""

    def __init__(self, name):
        self.module = VisionLanguageDecoder(V, VisionLanguageConfig(**fields(name)))
        self.given = inputs(0)
        self.params = filled(self.module, self.given)
        self.plain = jax.jit(lambda p, given: self.module.apply(p, **given)[0])
        self.captured = jax.jit(lambda p, given: capture(self.module, p, given))
        self.patched = jax.jit(
            lambda p, given, source, where: patch(self.module, p, given, source, **where)
        )


@pytest.fixture(scope="module")
def decoder():
    return Model("encoder_decoder_pre")


def equal(one, other):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def test_patching_with_itself_changes_no_bit(decoder):
    found = decoder.captured(decoder.params, decoder.given)
    logits, activations = found
    np.testing.assert_allclose(logits, decoder.plain(decoder.params, decoder.given), atol=1e-5)
    assert activations.map.shape == (L, B, H, T, P)
    where = dict.fromkeys(Activations._fields, ALL)
    assert equal(decoder.patched(decoder.params, decoder.given, activations, where), found)


def test_gradients_are_those_of_finite_differences(decoder):
    grads = jax.jit(lambda p, given: maps_and_gradients(decoder.module, p, given, score))
    maps, gradients = grads(decoder.params, decoder.given)
    _, found = decoder.captured(decoder.params, decoder.given)
    assert maps.shape == gradients.shape == (L, B, H, T, P)
    np.testing.assert_allclose(maps, found.map, atol=1e-6)
    assert (gradients[:, 0, ..., 3] == 0).all()
    assert (gradients[:, 1, ..., 3] != 0).any()
    for place in ((0, 0, 1, AT, 2), (1, 1, 0, AT, 6), (0, 1, 1, 1, 5)):
        values = []
        for change in (0.03, -0.03):
            source = found._replace(map=found.map.at[place].add(change))
            here = jnp.zeros((L, B, H, T), bool).at[place[:4]].set(True)
            logits, _ = decoder.patched(decoder.params, decoder.given, source, {"map": here})
            values.append(float(score(logits)[place[1]]))
        slope = (values[0] - values[1]) / 0.06
        assert slope == pytest.approx(float(gradients[place]), rel=0.02, abs=1e-4)
