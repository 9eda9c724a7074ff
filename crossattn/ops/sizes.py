"""Sizes of a call, which need not be known: `jax.export` makes one program for any.

A size of `jax.export.symbolic_shape` can be added and multiplied, but most comparisons with it
raise `InconclusiveDimensionOperation`. Whoever would compare asks `known` first, and does what is
right for any size where it says no.
"""

from __future__ import annotations

from typing import Any

from jax import export

__all__ = ["all_known", "up_to_blocks"]


def all_known(*sizes: Any) -> bool:
    """Whether all sizes are numbers.

    >>> all_known(3, 5), all_known(3, *export.symbolic_shape("B"))
    (True, False)
    """
    return not any(map(export.is_symbolic_dim, sizes))


def up_to_blocks(n: Any, block: int) -> Any:
    """`n` if it is known, else the next multiple of `block`.

    >>> up_to_blocks(5, 4), up_to_blocks(*export.symbolic_shape("T"), 4)
    (5, 4*floordiv(T + 3, 4))
    """
    return n if all_known(n) else (n + block - 1) // block * block
