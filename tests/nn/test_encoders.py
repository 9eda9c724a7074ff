"""Patches and windows of pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.nn import PatchEncoder
from crossattn.nn.layers.patch_encoder import cells, windows, with_coordinates

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


def test_a_token_of_sound_is_its_own_frames_behind_two_layers():
    encoder = PatchEncoder(width=5, kind="frames")
    sound = jax.random.normal(jax.random.key(1), (1, 6, 4))
    params = encoder.init(jax.random.key(0), sound)
    assert sorted(params["params"]) == ["embed", "mix", "norm", "position"]
    changed = sound.at[:, 2].add(1.0)
    moved = (encoder.apply(params, changed) != encoder.apply(params, sound)).any(-1)[0]
    assert moved.tolist() == [False, False, True, False, False, False]


def test_errors_name_what_is_read():
    with pytest.raises(ValueError, match="'oracle', 'features' and 'frames' read"):
        PatchEncoder(width=5).init(jax.random.key(0), pictures)
    with pytest.raises(ValueError, match="do not divide by 5"):
        cells(pictures, 5)


def test_coordinates_are_columns_and_rows_of_patches():
    grid = with_coordinates(jnp.full((2, 3, 5, 1), 7.0))
    columns, rows = np.meshgrid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 3))
    np.testing.assert_allclose(
        grid[1], np.stack([np.full((3, 5), 7), columns, rows], -1), atol=1e-6
    )
    flat = with_coordinates(jnp.zeros((1, 9, 2)))
    np.testing.assert_allclose(flat[0, 5], [0, 0, 1, 0], atol=1e-6)
    with pytest.raises(ValueError, match="square grid, 6 patches make none"):
        with_coordinates(jnp.zeros((1, 6, 2)))


@pytest.mark.parametrize(("kind", "cells_seen"), [("oracle", 1), ("patch", 1), ("window", 4)])
def test_coordinates_alone_tell_patches_apart(kind, cells_seen):
    vectors = kind == "oracle"
    empty = jnp.zeros((1, 9, 3)) if vectors else jnp.zeros((1, 12, 12, 3), jnp.uint8)
    kernels, spread = [], []
    for coordinates in (False, True):
        encoder = PatchEncoder(5, kind, 4, coordinates=coordinates)
        params = jax.jit(encoder.init)(jax.random.key(0), empty)["params"]
        unplaced = {**params, "position": jnp.zeros_like(params["position"])}
        tokens = encoder.apply({"params": unplaced}, empty)[0]
        kernels.append(params["embed"]["kernel"].shape[0])
        spread.append(np.ptp(np.asarray(tokens), axis=0).max())
    assert kernels[1] - kernels[0] == 2 * cells_seen
    assert spread[0] < 1e-5 < 1e-2 < spread[1]
