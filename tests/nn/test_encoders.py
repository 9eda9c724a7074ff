"""Patches and windows of pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.nn import PatchEncoder
from crossattn.nn.layers.patch_encoder import cells, windows

pictures = jax.random.randint(jax.random.key(0), (2, 12, 8, 3), 0, 256).astype(jnp.uint8)


def test_cells_are_the_pixels_of_a_square():
    grid = cells(pictures, 4)
    assert grid.shape == (2, 3, 2, 48)
    wanted = np.asarray(pictures[1, 4:8, 4:8]).reshape(-1) / 127.5 - 1
    np.testing.assert_allclose(grid[1, 1, 1], wanted, atol=1e-6)


def test_windows_gather_neighbours():
    grid = jnp.arange(12.0).reshape(1, 3, 4, 1)
    np.testing.assert_array_equal(windows(grid, 2, same=False)[0, 1, 2], [6, 7, 10, 11])
    padded = windows(grid, 3, same=True)
    assert padded.shape == (1, 3, 4, 9)
    np.testing.assert_array_equal(padded[0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 4, 5])


@pytest.mark.parametrize(("kind", "reach"), [("patch", 0), ("window", 1), ("conv", 2)])
def test_how_far_a_context_token_sees(kind, reach):
    encoder = PatchEncoder(width=5, kind=kind, cell=4)
    picture = jnp.zeros((1, 20, 20, 3), jnp.uint8)
    params = jax.jit(encoder.init)(jax.random.key(0), picture)
    changed = picture.at[:, 8:12, 8:12].set(200)  # cell (2, 2)
    moved = (encoder.apply(params, changed) != encoder.apply(params, picture)).any(-1)[0]
    side = int(np.sqrt(len(moved)))
    rows, columns = np.nonzero(np.asarray(moved).reshape(side, side))
    first = 2 - reach
    last = 2 if kind == "window" else 2 + reach
    assert set(rows) == set(columns) == set(range(first, last + 1))


def test_errors_name_what_is_read():
    with pytest.raises(ValueError, match="'oracle' and 'features' read"):
        PatchEncoder(width=5).init(jax.random.key(0), pictures)
    with pytest.raises(ValueError, match="do not divide by 5"):
        cells(pictures, 5)
