"""Over which axes of a mesh a value varies, inside `jax.shard_map(check_vma=True)`.

There every array carries the manual axes over which its copies may differ. A loop's carry must keep
its axes, so an accumulator that starts as zeros (equal everywhere) has to be declared as varying
before the first block of a sharded array is added to it; a custom VJP wants its arguments alike.
"""

from typing import Any

import jax

from crossattn.shapes import Array

__all__ = ["varying_like"]


def varying_like(x: Any, *others: Any) -> Any:
    """`x` declared to vary over every manual axis over which any of `others` varies.

    Both may be pytrees. The values stay as they are; outside of `shard_map` `x` is returned.

    >>> import jax.numpy as jnp
    >>> varying_like(jnp.zeros(3), jnp.ones(2)).tolist()
    [0.0, 0.0, 0.0]
    """
    axes: frozenset[str] = frozenset().union(*map(_axes, jax.tree.leaves(others)))
    return jax.tree.map(lambda leaf: _vary(leaf, axes - _axes(leaf)), x) if axes else x


def _axes(x: Any) -> frozenset[str]:
    kind = jax.typeof(x)
    # Until jax 0.9 the axes were `vma`, and `pcast` was `pvary`.
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


def _vary(x: Array, axes: frozenset[str]) -> Array:
    if not axes:
        return x
    names = tuple(sorted(axes))
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(x, names, to="varying")
    return jax.lax.pvary(x, names)  # type: ignore[attr-defined]
