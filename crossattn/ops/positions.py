"""Positions of tokens: sines, Fourier features and rotations; queries and keys have their own.

Coordinates are arrays (..., T, A) with A axes: 1 for text, 2 for a grid of patches, 3 for video.
Each axis gets an equal share of the features.
"""

from collections.abc import Sequence

import jax.numpy as jnp

from crossattn.ops.reference import precision
from crossattn.renamed import former_names
from crossattn.shapes import Array, Float

__all__ = ["fourier", "grid_coordinates", "rotate", "sinusoids"]

__getattr__ = former_names(__name__, grid="grid_coordinates")


def grid_coordinates(*sizes: int) -> Float[Array, "T A"]:
    """Coordinates of all cells of a grid, the last axis running fastest.

    >>> grid_coordinates(2, 2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    axes = jnp.meshgrid(*(jnp.arange(size) for size in sizes), indexing="ij")
    return jnp.stack(axes, axis=-1).reshape(-1, len(sizes)).astype(jnp.float32)


def sinusoids(
    coordinates: Float[Array, "... T A"], width: int, *, longest: float = 10_000.0
) -> Float[Array, "... T M"]:
    """Sines, then cosines, of wavelengths from 2 pi to `longest` times 2 pi.

    Each axis has width / A features, half of them sines (Vaswani et al. 2017, section 3.5, with
    the sines side by side as in tensor2tensor and Whisper).

    Raises:
      ValueError: the width does not divide into a sine and a cosine for each axis.

    >>> sinusoids(grid_coordinates(3), 4).round(2).tolist()[1]
    [0.8399999737739563, 0.009999999776482582, 0.5399999618530273, 1.0]
    """
    share = _share(width, coordinates.shape[-1])
    angle = coordinates[..., None] * _frequencies(share, longest, coordinates)
    both = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)
    return both.reshape(*coordinates.shape[:-1], width)


def fourier(
    coordinates: Float[Array, "... T A"], *, bands: int, highest: float | int | Sequence[float]
) -> Float[Array, "... T F"]:
    """The coordinates, then sin and cos of pi f x for `bands` frequencies from 1 to highest / 2.

    Coordinates lie in [-1, 1]; `highest` is the resolution of each axis, so that its half is the
    Nyquist frequency (Jaegle et al. 2021, "Perceiver", section 3.2). F = A (2 bands + 1).

    >>> fourier(grid_coordinates(3) - 1.0, bands=4, highest=3).shape
    (3, 9)
    """
    axes = coordinates.shape[-1]
    top = [highest] * axes if isinstance(highest, int | float) else list(highest)
    if len(top) != axes:
        raise ValueError(f"highest has {len(top)} entries for {axes} axes: give one for each")
    bank = jnp.stack([jnp.linspace(1.0, one / 2, bands, dtype=coordinates.dtype) for one in top])
    bank = bank.reshape((1,) * (coordinates.ndim - 1) + bank.shape)
    angle = jnp.pi * coordinates[..., None] * bank
    angle = angle.reshape(*coordinates.shape[:-1], axes * bands)
    return jnp.concatenate([coordinates, jnp.sin(angle), jnp.cos(angle)], axis=-1)


def rotate(
    x: Float[Array, "B T H D"],
    coordinates: Float[Array, "#B T A"],
    *,
    longest: float = 10_000.0,
    neighbours: bool = False,
) -> Float[Array, "B T H D"]:
    """Rotate pairs of features by their token's coordinates (Su et al. 2021, "RoFormer").

    The product of a rotated query with a rotated key depends on the difference of their
    coordinates only. A token at coordinates 0 is not rotated: this is how keys are excluded.

    Args:
      x: queries or keys; D divides into A parts of an even width, one for each axis.
      coordinates: of the tokens, for each example or for all (1, T, A).
      longest: base of the wavelengths.
      neighbours: a pair is (2i, 2i + 1) of its part (RoFormer, SAM 2), or (i, i + half of the part)
        (GPT-NeoX, Llama, Gemma).

    >>> x = jnp.ones((1, 3, 2, 8))
    >>> bool(jnp.all(rotate(x, jnp.zeros((1, 3, 1))) == x))
    True
    """
    (B, T, H, D), axes = x.shape, coordinates.shape[-1]
    share = _share(D, axes)
    wide = coordinates.astype(precision(x.dtype))
    angle = (wide[..., None] * _frequencies(share, longest, wide))[:, :, None]
    sin, cos = jnp.sin(angle), jnp.cos(angle)  # (B|1, T, 1, A, share / 2)
    parts = x.astype(wide.dtype).reshape(B, T, H, axes, share)
    if neighbours:
        first, second = parts[..., ::2], parts[..., 1::2]
    else:
        first, second = jnp.split(parts, 2, axis=-1)
    pair = [first * cos - second * sin, second * cos + first * sin]
    turned = jnp.stack(pair, -1) if neighbours else jnp.concatenate(pair, -1)
    return turned.reshape(x.shape).astype(x.dtype)


def _share(width: int, axes: int) -> int:
    if width % (2 * axes):
        raise ValueError(
            f"{width} features do not divide into pairs for {axes} axes: "
            f"choose a multiple of {2 * axes}"
        )
    return width // axes


def _frequencies(share: int, longest: float, like: Array) -> Array:
    """(1, ..., 1, share / 2), in the dtype of `like` (..., A), behind which they stand."""
    exponent = jnp.arange(0, share, 2).astype(like.dtype) / share
    return (longest**-exponent).reshape((1,) * like.ndim + (-1,))
