"""The mean of a function over parts of a batch, one after the other: more rows than fit at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.shapes import Array


def accumulate(function: Callable[[Any], Any], batch: Any, *, parts: int, units: int) -> Any:
    """The mean of `function(part)` over the parts of a batch, of which one is in memory at a time.

    The gradient of a loss that is a mean over units is that of the whole batch. Of ratios, such as
    an accuracy over words, it is the mean of the parts' ratios.

    A part takes every `parts`-th unit, not a run of neighbours: of a batch whose rows are split
    over devices, each device keeps its own rows and every device works on every part, provided
    that the units of a part divide over the devices.

    Args:
      function: a tree of float arrays from a batch, such as a gradient and metrics.
      batch: tree of arrays, each with a multiple of `units` rows.
      parts: number of parts.
      units: what must not be taken apart, a multiple of `parts`: images for instance, whose texts
        are neighbouring rows.

    Returns:
      The tree, in the dtypes of the function.

    Raises:
      ValueError: where units or rows do not divide evenly.

    Example:
      >>> rows = jnp.arange(6.0)
      >>> float(accumulate(jnp.mean, rows, parts=3, units=6))
      2.5
    """
    if parts < 1 or units % parts:
        raise ValueError(
            f"{units} units of a batch do not divide into {parts} parts; take a divisor of {units}"
        )
    if parts == 1:
        return function(batch)
    split = jax.tree.map(lambda leaf: _parts(leaf, parts, units), batch)
    first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), split)
    start = jax.tree.map(
        lambda out: jnp.zeros(out.shape, out.dtype), jax.eval_shape(function, first)
    )
    add = lambda total, part: (jax.tree.map(jnp.add, total, function(part)), None)
    total, _ = jax.lax.scan(add, start, split)
    return jax.tree.map(lambda leaf: leaf / parts, total)


def _parts(leaf: Array, parts: int, units: int) -> Array:
    """(rows, ...) as (parts, rows / parts, ...)."""
    rows = leaf.shape[0]
    if rows % units:
        raise ValueError(
            f"an array {leaf.shape} of a batch of {units} units has no equal rows each"
        )
    split = leaf.reshape(units // parts, parts, rows // units, *leaf.shape[1:])
    return jnp.moveaxis(split, 1, 0).reshape(parts, rows // parts, *leaf.shape[1:])
