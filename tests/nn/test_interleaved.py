"""Words before any image are those of the same model without images, to the bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn import Mask
from crossattn.nn.interleaved import Interleaved
from crossattn.nn.presets import DESIGNS, TEXT

B, T, S, M, H = 2, 7, 6, 8, 2
BEGUN = np.array([[0, 0, 1, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1, 1]])
IMAGE = np.array([[1, 1, 1, 2, 2, 2], [1, 1, 1, 1, 0, 0]])


@pytest.mark.parametrize("name", ["flamingo", "idefics", "mllama"])
@pytest.mark.parametrize("latest", [True, False])
def test_words_before_any_image_are_those_of_the_text_alone(name, latest):
    model = Interleaved(2, 2, width=M, heads=H, reading=DESIGNS[name], text=TEXT)
    keys = jax.random.split(jax.random.key(0), 3)
    words = jax.random.normal(keys[0], (B, T, M))
    one, other = (jax.random.normal(key, (B, S, M)) for key in keys[1:])
    media = Mask.media(jnp.asarray(BEGUN), jnp.asarray(IMAGE), latest_only=latest)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(1), words, one, mask=media))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.4, p.shape), p.dtype), shapes)
    apply = jax.jit(lambda context, mask: model.apply(params, words, context, mask=mask)[0])
    nothing = Mask.media(jnp.zeros((B, T), int), jnp.asarray(IMAGE), latest_only=latest)
    alone = apply(one, nothing)
    before = BEGUN == 0
    for context in (one, other):
        y = apply(context, media)
        np.testing.assert_array_equal(y[before], alone[before])
        assert not np.allclose(y[~before], alone[~before])
    # The second image, and what belongs to none, cannot reach the words of the first.
    poison = jnp.where(jnp.asarray(IMAGE == 0), jnp.nan, 100.0)[..., None]
    poisoned = jnp.where(jnp.asarray(IMAGE != 1)[..., None], poison, one)
    y, other = apply(one, media), apply(poisoned, media)
    np.testing.assert_array_equal(y[BEGUN == 1], other[BEGUN == 1])
    assert not np.allclose(y[BEGUN == 2], other[BEGUN == 2])
