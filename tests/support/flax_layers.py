"""What tests of Flax's attention with ours inside share: sizes, inputs, comparisons."""

import jax
import jax.numpy as jnp
import numpy as np

B, T, S, H, M, N = 3, 5, 7, 2, 8, 4
LENGTHS = np.array([7, 4, 2])
PADDING = np.arange(S)[None] < LENGTHS[:, None]


def inputs(dtype=None):
    keys = jax.random.split(jax.random.key(1), 2)
    x, context = jax.random.normal(keys[0], (B, T, M)), jax.random.normal(keys[1], (B, S, N))
    return x.astype(dtype or x.dtype), context.astype(dtype or x.dtype)


def random(tree):
    """Parameters of which none is 0 or 1."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.5, p.shape), p.dtype), tree)


def assert_equal(one, other, tolerance=1e-12):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        a, b = (np.asarray(x, np.float64) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


def wave(y):
    return jnp.sum(jnp.sin(jnp.arange(y.size, dtype=y.dtype).reshape(y.shape)) * y)
