"""Image encoders: patches in, context tokens out."""

import math
from functools import partial
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.layers.dense import Dense
from crossattn.nn.layers.norm import LayerNorm
from crossattn.nn.module import Module
from crossattn.nn.tables import learned
from crossattn.ops.checks import as_array
from crossattn.renamed import arguments
from crossattn.shapes import Array, Float, UInt8
from crossattn.sharding import ContextParallel

ImageEncoder = Literal["oracle", "features", "frames", "patch", "window", "conv"]
# What comes as vectors already: exact symbols, what another encoder made, spectra of sound.
VECTORS = ("oracle", "features", "frames")
# Vectors that one dense layer reads; a second one behind a GELU reads the others.
PLAIN = ("oracle", "features")


def cells(pixels: UInt8[Array, "B h w C"], size: int) -> Float[Array, "B rows columns F"]:
    """Cut pictures (uint8) into square cells of `size` pixels, values scaled to [-1, 1]."""
    height, width = pixels.shape[1:3]
    if height % size or width % size:
        raise ValueError(f"pictures of {height} x {width} pixels do not divide by {size}")
    return cut_cells(pixels.astype(jnp.float32) / 127.5 - 1.0, size)


def cut_cells(pixels: Float[Array, "B h w C"], size: int) -> Float[Array, "B rows columns F"]:
    """Square cells of `size` pixels, which divides the sides, as vectors of F = size^2 C numbers.

    >>> cut_cells(jnp.arange(8.0).reshape(1, 2, 4, 1), 2)[0, 0].tolist()
    [[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]
    """
    batch, height, width, channels = pixels.shape
    rows, columns = height // size, width // size
    split = pixels.reshape(batch, rows, size, columns, size, channels)
    return split.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows, columns, size**2 * channels)


def windows(
    grid: Float[Array, "B r c F"], size: int, *, same: bool
) -> Float[Array, "B rows columns G"]:
    """Every `size` x `size` neighbourhood of a grid as one vector, by gathering shifted copies.

    With `same` the border is padded with zeros and the grid keeps its shape. (A convolution inside
    a scan is pathologically slow on CPUs; a gather and a product are not.)
    """
    if same:
        before, after = (size - 1) // 2, size // 2
        grid = jnp.pad(grid, ((0, 0), (before, after), (before, after), (0, 0)))
    rows, columns = grid.shape[1] - size + 1, grid.shape[2] - size + 1
    shifted = [grid[:, i : i + rows, j : j + columns] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=-1)


def with_coordinates(patches: Float[Array, "B *P F"]) -> Float[Array, "B *P G"]:
    """Put x and y of each patch, from -1 to 1, behind its features: G is F + 2.

    Args:
      patches: (B, r, c, F), or (B, P, F) of a square grid, row by row.

    Raises:
      ValueError: P is no square.

    Example:
      >>> with_coordinates(jnp.zeros((1, 4, 0)))[0].tolist()
      [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """
    shape = patches.shape[1:-1]
    side = math.isqrt(shape[0])
    rows, columns = shape if len(shape) == 2 else (side, side)
    if rows * columns != math.prod(shape):
        raise ValueError(f"coordinates are those of a square grid, {shape[0]} patches make none")
    y, x = (jnp.linspace(-1.0, 1.0, size) for size in (rows, columns))
    place = jnp.stack(jnp.broadcast_arrays(x[None], y[:, None]), axis=-1).reshape(*shape, 2)
    place = jnp.broadcast_to(place.astype(patches.dtype), (*patches.shape[:-1], 2))
    return jnp.concatenate([patches, place], axis=-1)


def _check_pictures(images: Array, least: int) -> None:
    """Refuse numbers that would be read as others, and pictures without a cell."""
    if images.dtype != jnp.uint8:
        raise TypeError(f"pictures are uint8, 0 to 255, got {images.dtype}")
    _, h, w, channels = images.shape
    if channels != 3 or min(h, w) < least:
        raise ValueError(
            f"pictures are (B, h, w, 3) with sides of at least {least} pixels, got {images.shape}"
        )


@arguments(perception="kind")
class PatchEncoder(Module):
    """What the model perceives of an image: one context token per patch, plus learned positions.

    Attributes:
      width: M.
      kind: "oracle" reads symbolic features (B, P, F) of each patch, "features" those that
        another encoder made. The others have two dense layers with a GELU between them: "frames"
        reads spectra (B, P, F) of stretches of sound, one a token; the rest pictures (B, h, w, 3)
        in uint8, "patch" strictly one cell a token, "window" 2 x 2 neighbouring cells, "conv" 3 x 3
        cells and then the 3 x 3 neighbourhood of that.
      cell: side of a cell in pixels.
      dtype: in which all is computed; when None that of vectors, and float32 of pictures.
      coordinates: whether x and y of a patch stand among what is known of it (Liu et al. 2018, "An
        intriguing failing of convolutional neural networks and the CoordConv solution"). Vectors
        are then those of a square grid, row by row.
      layout: of the tokens over devices, as those who read them have it; see `CrossAttention`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from crossattn.nn import PatchEncoder
      >>> encoder = PatchEncoder(width=8, kind="window")
      >>> pictures = jnp.zeros((2, 64, 64, 3), jnp.uint8)
      >>> context, _ = jax.jit(encoder.init_with_output)(jax.random.key(0), pictures)
      >>> context.shape
      (2, 49, 8)
    """

    width: int
    kind: ImageEncoder = "oracle"
    cell: int = 8
    layout: ContextParallel | None = None
    dtype: Any = None
    coordinates: bool = False

    @nn.compact
    def __call__(self, images: Array) -> Float[Array, "B P M"]:
        """Encode symbolic features (B, P, F) or pictures (B, h, w, 3), uint8."""
        images = as_array("images", images)
        rank = 3 if self.kind in VECTORS else 4
        if self.kind not in get_args(ImageEncoder) or images.ndim != rank:
            raise ValueError(
                f"PatchEncoder.kind {self.kind!r} does not read an array of shape {images.shape}: "
                "'oracle', 'features' and 'frames' read (B, P, F), 'patch', 'window' and 'conv' "
                "read (B, h, w, 3)"
            )
        if rank == 4:
            _check_pictures(images, self.cell * (2 if self.kind == "window" else 1))
        dense = partial(Dense, self.width, flat=self.layout is None, dtype=self.dtype)
        x = dense(name="embed")(self._patches(images))
        if self.kind not in PLAIN:
            x, reach = nn.gelu(x), 3 if self.kind == "conv" else 1
            x = dense(name="mix")(x if x.ndim == 3 else windows(x, reach, same=True))
        x = x.reshape(x.shape[0], -1, self.width)
        position = learned(self, "position", nn.initializers.normal(0.1), (x.shape[1], self.width))
        return LayerNorm(name="norm")(x + position.astype(x.dtype)[None])

    def _patches(self, images):
        if self.kind in VECTORS:
            return with_coordinates(images) if self.coordinates else images
        grid = cells(images, self.cell)
        grid = with_coordinates(grid) if self.coordinates else grid
        if self.kind == "patch":
            return grid
        return (
            windows(grid, 2, same=False) if self.kind == "window" else windows(grid, 3, same=True)
        )
