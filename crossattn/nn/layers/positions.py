"""Positions that are learned: tables, one for each axis, and biases by distance."""

import math

import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.dtypes import common, promoted
from crossattn.nn.module import Module
from crossattn.nn.tables import learned
from crossattn.ops.checks import as_array
from crossattn.shapes import Array, Float, Int

__all__ = ["LearnedPositions", "RelativeBias", "with_positions"]


def _check_places(tokens: Array, positions: Array, *, added: bool) -> None:
    """Refuse positions that are not those of the tokens: they would be broadcast."""
    (B, T, N), found = tokens.shape, jnp.shape(positions)
    whole = len(found) == 3 and found[0] in (1, B) and found[1] == T
    if whole and (not added or found[2] == N):
        return
    kind, last = (
        ('positions="add" takes vectors', N) if added else ("Rotary takes coordinates", "A")
    )
    raise ValueError(
        f"positions {found} for tokens {tokens.shape}: {kind} (1, {T}, {last})"
        + (f" or ({B}, {T}, {last})" if B != 1 and len(found) == 3 and found[0] != 1 else "")
    )


def with_positions(tokens: Array, positions: Array | None, kind: str | None) -> Array:
    """What queries or keys are made of: the tokens and, of kind "add", their positions.

    Args:
      tokens: (B, T, N).
      positions: (B|1, T, N) vectors or, of kind "rotary", (B|1, T, A) coordinates.
      kind: what is done with positions; None: nothing.

    Raises:
      ValueError: positions of another shape, or some where nothing is done with them.

    >>> with_positions(jnp.ones((2, 3, 8)), jnp.ones((1, 3, 1)), "add")
    Traceback (most recent call last):
    ValueError: positions (1, 3, 1) for tokens (2, 3, 8): positions="add" takes vectors (1, 3, 8)
    """
    if positions is None:
        return tokens
    if kind is None:
        raise ValueError(
            'positions were given, but nothing is done with them: positions="rotary" or "add"'
        )
    _check_places(tokens, positions, added=kind == "add")
    return tokens + positions.astype(tokens.dtype) if kind == "add" else tokens


class LearnedPositions(Module):
    """A learned vector for each token of a line, or for each row and column of a grid, added up.

    Attributes:
      sizes: (T,) of a line, (rows, columns) of a grid.
      width: M.

    Example:
      >>> import jax
      >>> places, params = LearnedPositions((3, 4), width=8).init_with_output(jax.random.key(0))
      >>> places.shape, params["params"]["axis1"].shape
      ((1, 12, 8), (4, 8))
    """

    sizes: tuple[int, ...]
    width: int

    @nn.compact
    def __call__(self) -> Float[Array, "1 T M"]:
        """Vectors of all tokens, the last axis running fastest."""
        shapes = [(size, self.width) for size in self.sizes]
        start = nn.initializers.normal(0.02)
        tables = [learned(self, f"axis{axis}", start, shape) for axis, shape in enumerate(shapes)]
        total = jnp.zeros((1, self.width), common(*tables))
        for table in promoted(None, *tables):
            total = (total[:, None] + table[None]).reshape(-1, self.width)
        return total[None]


class RelativeBias(Module):
    """A learned bias for each head and bucket of distances (Raffel et al. 2020, "T5").

    Half of the buckets hold one distance each; those behind grow by a constant factor up to
    `longest`, and the last one holds all that are farther.

    Attributes:
      heads: H.
      buckets: how many there are; under `both` half of them for each direction.
      longest: distance from which on all share a bucket.
      both: whether keys behind the query count as well (an encoder), or are all at distance 0.

    Example:
      >>> import jax
      >>> bias, _ = RelativeBias(heads=2).init_with_output(jax.random.key(0), jnp.arange(3), 5)
      >>> bias.shape
      (1, 2, 3, 5)
    """

    heads: int
    buckets: int = 32
    longest: int = 128
    both: bool = False

    def __post_init__(self):
        super().__post_init__()
        single = self.buckets // (4 if self.both else 2)
        if single < 1:
            raise ValueError(f"RelativeBias.buckets is at least {4 if self.both else 2}")
        if self.longest <= single:
            raise ValueError(
                f"RelativeBias.longest is above {single}, the distances of one bucket each; "
                f"got {self.longest}"
            )

    @nn.compact
    def __call__(self, queries: Int[Array, " T"], keys: int) -> Float[Array, "1 H T S"]:
        """For queries at these places (T,) and keys at 0 to `keys`."""
        queries = as_array("queries", queries)
        if queries.ndim != 1:
            raise ValueError(f"queries are places (T,), got shape {queries.shape}")
        table = self.param("table", nn.initializers.normal(0.02), (self.buckets, self.heads))
        behind = queries[:, None] - jnp.arange(keys)[None, :]
        return jnp.moveaxis(table[self._bucket(behind)], -1, 0)[None]

    def _bucket(self, behind):
        """The bucket of a key that stands so many places before the query."""
        count = self.buckets // 2 if self.both else self.buckets
        first = jnp.where(behind < 0, count, 0) if self.both else jnp.zeros_like(behind)
        distance = jnp.abs(behind) if self.both else jnp.maximum(behind, 0)
        single = count // 2
        ratio = jnp.log(jnp.maximum(distance, 1) / single) / math.log(self.longest / single)
        far = single + (ratio * (count - single)).astype(distance.dtype)
        return first + jnp.where(distance < single, distance, jnp.minimum(far, count - 1))
