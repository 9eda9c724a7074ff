"""Which dtype a module computes in: its own, or the one to which its streams are promoted.

Parameters follow: they are cast to the dtype of the streams, whatever a file has stored them in.
That is Flax's rule (`flax.linen.dtypes.promote_dtype`) but for one case: parameters in float32 do
not make float32 of streams in half precision, so that a cast of the inputs is all that computing in
half precision takes.
"""

from typing import Any

import jax
import jax.numpy as jnp

from crossattn.nn.context import ProjectedContext

__all__ = ["common", "promoted"]


def common(*arrays: Any) -> Any:
    """The dtype to which arrays are promoted together, also where JAX is told to promote nothing.

    >>> common(jnp.ones(1, jnp.float16), jnp.ones(1, jnp.bfloat16)).name
    'float32'
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*(array.dtype for array in arrays))


def promoted(dtype: Any, *streams: Any) -> tuple[Any, ...]:
    """Streams in one dtype: in `dtype`, or promoted together where it is None.

    Each is an array, a `ProjectedContext`, None, or a tuple or list of these; masks are left alone.

    Raises:
      TypeError: a number stands where an array is meant, as in a list of numbers.

    >>> x, none, (context,) = promoted(None, jnp.ones(2, jnp.bfloat16), None, [jnp.ones(3)])
    >>> x.dtype.name, none, context.dtype.name
    ('float32', None, 'float32')
    """
    leaves = jax.tree.leaves(streams, is_leaf=_projected)
    for one in leaves:
        if not _projected(one) and not hasattr(one, "dtype"):
            raise TypeError(f"a stream is an array, got {one!r} in it: write jnp.asarray(stream)")
    arrays = [array for one in leaves for array in _floats(one)]
    if not arrays:
        return streams
    wanted = common(*arrays) if dtype is None else dtype

    def cast(one: Any) -> Any:
        if _projected(one):
            keys, values = one.keys.astype(wanted), one.values.astype(wanted)
            return one.replace(keys=keys, values=values)
        return one.astype(wanted) if _floats(one) else one

    return jax.tree.map(cast, streams, is_leaf=_projected)


def _projected(one: Any) -> bool:
    return isinstance(one, ProjectedContext)


def _floats(one: Any) -> list[Any]:
    """The arrays that count."""
    arrays = [one.keys, one.values] if _projected(one) else [one]
    floating = lambda a: hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating)
    return [array for array in arrays if floating(array)]
