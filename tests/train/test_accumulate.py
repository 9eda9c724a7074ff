"""A batch in parts gives the gradient of the whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.sharding import make_mesh, place_batch
from crossattn.train.accumulate import accumulate


def loss(weight, batch):
    """A mean over units, of which the second array has three rows each."""
    hidden = jnp.tanh(batch["images"] @ weight)
    texts = batch["texts"].reshape(hidden.shape[0], 3, -1)
    return jnp.mean(jnp.square(texts - hidden[:, None]))


def test_equals_the_whole_batch_and_moves_no_rows():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(5, 7)).astype(np.float32)
    whole = {
        "images": rng.normal(size=(32, 5)).astype(np.float32),
        "texts": rng.normal(size=(96, 7)).astype(np.float32),
    }
    mesh = make_mesh("data=2,fsdp=2", devices=jax.devices()[:4])
    expected = jax.value_and_grad(loss)(weight, whole)
    step = lambda weight, batch: accumulate(
        lambda part: jax.value_and_grad(loss)(weight, part), batch, parts=4, units=32
    )
    program = jax.jit(step).lower(weight, place_batch(whole, mesh)).compile()
    found = program(weight, place_batch(whole, mesh))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected
    )
    # Rows stay on their devices; only sums travel.
    text = program.as_text()
    assert "all-reduce" in text
    assert not any(word in text for word in ("all-gather", "all-to-all", "collective-permute"))
    # Every device works on every part: 8 units in a part, 2 for each.
    assert "f32[2,5]" in text


def test_what_does_not_divide_is_said():
    with pytest.raises(ValueError, match="6 units of a batch do not divide into 4 parts"):
        accumulate(jnp.mean, jnp.ones(6), parts=4, units=6)
    with pytest.raises(ValueError, match=r"an array \(5,\) of a batch of 6 units"):
        accumulate(jnp.mean, jnp.ones(5), parts=2, units=6)
    assert accumulate(jnp.mean, jnp.ones(5), parts=1, units=5) == 1
