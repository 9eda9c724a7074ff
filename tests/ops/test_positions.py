"""Positions: what a product of rotated queries and keys may depend on; sines; Fourier features."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossattn.ops.positions import fourier, grid_coordinates, rotate, sinusoids

B, T, H, D = 2, 5, 3, 8


@pytest.fixture(scope="module")
def heads():
    keys = jax.random.split(jax.random.key(0))
    return [jax.random.normal(key, (B, T, H, D)) for key in keys]


@pytest.mark.parametrize("neighbours", [False, True])
@pytest.mark.parametrize("axes", [1, 2])
def test_products_depend_on_differences_only(heads, axes, neighbours):
    places = jax.random.normal(jax.random.key(1), (1, T, axes))

    def products(shift):
        turned = [rotate(x, places + shift, neighbours=neighbours) for x in heads]
        return jnp.einsum("bthd,bshd->bhts", *turned)

    np.testing.assert_allclose(products(0.0), products(7.5), atol=1e-4)
    moved = rotate(heads[0], places + 7.5, neighbours=neighbours)
    assert not np.allclose(moved, rotate(heads[0], places, neighbours=neighbours), atol=0.1)


def test_pairs_are_turned_as_complex_numbers(heads):
    x = np.asarray(heads[0], np.float64)
    angle = np.arange(T)[:, None] * 100.0 ** (-np.arange(D // 2) / (D // 2))
    turn = np.exp(1j * angle)[None, :, None]
    pairs = (x[..., ::2] + 1j * x[..., 1::2]) * turn
    wanted = np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)
    found = rotate(heads[0], grid_coordinates(T)[None], longest=100.0, neighbours=True)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    halves = (x[..., : D // 2] + 1j * x[..., D // 2 :]) * turn
    wanted = np.concatenate([halves.real, halves.imag], -1)
    np.testing.assert_allclose(
        rotate(heads[0], grid_coordinates(T)[None], longest=100.0), wanted, atol=1e-5
    )


def test_each_axis_turns_its_own_share(heads):
    place = grid_coordinates(T, 1)[None]
    turned = rotate(heads[0], place)
    assert not np.allclose(turned[:, 1:, :, : D // 2], heads[0][:, 1:, :, : D // 2])
    np.testing.assert_array_equal(turned[..., D // 2 :], heads[0][..., D // 2 :])


def test_bfloat16_coordinates_stay_precise(heads):
    far = 4096.0 + grid_coordinates(T)[None]
    exact = rotate(heads[0], far)
    half = rotate(heads[0].astype(jnp.bfloat16), far)
    np.testing.assert_allclose(half.astype(jnp.float32), exact, atol=0.1)


def test_sinusoids_are_those_of_the_paper():
    found = np.asarray(sinusoids(grid_coordinates(T), D))
    for place in range(T):
        for pair in range(D // 2):
            angle = place / 10_000 ** (2 * pair / D)
            assert found[place, pair] == pytest.approx(np.sin(angle), abs=1e-6)
            assert found[place, D // 2 + pair] == pytest.approx(np.cos(angle), abs=1e-6)
    square = np.asarray(sinusoids(grid_coordinates(3, 2), D))
    np.testing.assert_array_equal(
        square[:, : D // 2], np.asarray(sinusoids(grid_coordinates(3), D // 2))[[0, 0, 1, 1, 2, 2]]
    )


def test_fourier_features_reach_the_nyquist_frequency():
    x = np.linspace(-1, 1, T)
    found = np.asarray(fourier(jnp.asarray(x)[:, None], bands=3, highest=float(T)))
    wanted = [x]
    for function in (np.sin, np.cos):
        wanted += [function(np.pi * f * x) for f in (1.0, 1.75, 2.5)]
    np.testing.assert_allclose(found, np.stack(wanted, -1), atol=1e-6)


def test_widths_that_do_not_divide_are_said(heads):
    with pytest.raises(ValueError, match="choose a multiple of 6"):
        rotate(heads[0], jnp.zeros((1, T, 3)))
