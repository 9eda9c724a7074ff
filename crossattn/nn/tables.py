"""Tables of vectors that are looked up by number: what lies outside of them is not silent."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import meta

from crossattn.nn.dtypes import wide_dot
from crossattn.ops.checks import as_array
from crossattn.shapes import Array, Bool, Float, Int

__all__ = ["Embed", "concrete", "exceeds", "in_table", "learned", "nan_from"]


def concrete(x: Any) -> np.ndarray | None:
    """The values of an array where they are known: not within `jit`, nor on other processes.

    >>> concrete(jnp.arange(2)).tolist()
    [0, 1]
    >>> jax.jit(lambda x: print(concrete(x)))(1)
    None
    """
    if isinstance(x, jax.core.Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return None
    return np.asarray(x)


def exceeds(size: Any, limit: Any) -> bool:
    """Whether one size is above another; False where either is a symbol of `jax.export`."""
    return isinstance(size, int) and isinstance(limit, int) and size > limit


def in_table(what: str, numbers: Array, size: int) -> Bool[Array, "..."]:
    """Which numbers are those of rows of a table.

    Args:
      what: name of the numbers, for the error.
      numbers: integers of any shape.
      size: rows of the table.

    Raises:
      ValueError: one is not, where they are known.
      TypeError: they are no integers.

    >>> in_table("token", jnp.array([0, 7]), 5)
    Traceback (most recent call last):
    ValueError: token 7 of a table of 5: numbers are 0 to 4
    """
    if not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise TypeError(f"{what}: integers are looked up, got {numbers.dtype}")
    numbers = as_array(f"{what}s", numbers)
    known = concrete(numbers)
    if known is not None:
        wrong = known[(known < 0) | (known >= size)]
        if wrong.size:
            raise ValueError(f"{what} {wrong[0]} of a table of {size}: numbers are 0 to {size - 1}")
    numbers = _wide(numbers)
    return (numbers >= 0) & (numbers < size)


def _wide(numbers: Array) -> Array:
    """Integers that can be compared with the size of any table."""
    return numbers.astype(jnp.int32) if numbers.dtype.itemsize < 4 else numbers


class Embed(nn.Module):
    """A learned vector for each number, as `nn.Embed`; that of a number outside of the table is 0.

    Flax gives NaN there, which attention spreads over a whole row even where it is hidden. Who
    looks up asks `in_table` which numbers have a vector, and what to do about the others.

    Attributes:
      count: V, the numbers being 0 to V - 1.
      width: M.

    Example:
      >>> table = Embed(count=3, width=2)
      >>> look_up = jax.jit(lambda n: table.init_with_output(jax.random.key(0), n)[0])
      >>> look_up(jnp.array([-1, 3])).tolist()
      [[0.0, 0.0], [0.0, 0.0]]
    """

    count: int
    width: int

    def setup(self):  # noqa: D102 - Linen calls it
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
        self.embedding = self.param("embedding", start, (self.count, self.width))

    def __call__(self, numbers: Int[Array, "..."]) -> Float[Array, "... M"]:
        """The vectors."""
        numbers = as_array("numbers", numbers)
        # A negative number would be counted from the end.
        numbers = _wide(numbers)
        row = jnp.where(numbers < 0, self.count, numbers)
        return jnp.asarray(self.embedding).at[row].get(mode="fill", fill_value=0)

    def attend(self, x: Float[Array, "... M"]) -> Float[Array, "... V"]:
        """The product of x with every vector, computed in x's dtype and added up in float32."""
        return wide_dot(x, self.embedding.astype(x.dtype), 0)


def nan_from(x: Float[Array, "B T M"], there: Bool[Array, "#B T"]) -> Float[Array, "B T M"]:
    """NaN from the first token of each row on that is not there; those before it keep theirs.

    No gradient is NaN of a loss that leaves these tokens out.

    >>> nan_from(jnp.ones((1, 3, 1)), jnp.array([[True, False, True]]))[0, :, 0].tolist()
    [1.0, nan, nan]
    """
    return jnp.where((jnp.cumsum(~there, axis=1) == 0)[..., None], x, jnp.nan)


def learned(
    module: nn.Module,
    name: str,
    init: nn.initializers.Initializer,
    shape: tuple[int, int],
    dtype: Any = float,
) -> Array:
    """A parameter with one vector for each token: positions, latents.

    Raises:
      ValueError: the parameters have vectors for another number of tokens.
    """
    if module.has_variable("params", name):
        found = jnp.shape(meta.unbox(module.get_variable("params", name)))
        if found != shape:
            raise ValueError(
                f"{type(module).__name__}: {shape[0]} vectors of width {shape[1]} are needed, the "
                f"parameter {name!r} has {found[0]} of width {found[-1]}: they are made by init"
            )
    return module.param(name, init, shape, dtype)
