"""Which dtype a module computes in: its own, or the one to which its streams are promoted.

Parameters follow: they are cast to the dtype of the streams, whatever a file has stored them in.
That is Flax's rule (`flax.linen.dtypes.promote_dtype`) but for one case: parameters in float32 do
not make float32 of streams in half precision, so that a cast of the inputs is all that computing in
half precision takes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from crossattn.nn.context import ProjectedContext
from crossattn.ops.reference import precision
from crossattn.shapes import Array, Float

__all__ = ["common", "light", "promoted", "summed_wide", "wide_dot"]


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


def light(f: Callable[..., Array], x: Array, **options: Any) -> Callable[..., Array]:
    """`f`, elementwise or nearly so, of which a backward pass keeps the arguments alone.

    It computes what lies between again: of half precision that is in float32, and would be most of
    what a layer keeps. Where x is in float32, `f` is as it is.
    """
    if precision(x.dtype) == x.dtype:
        return f
    return jax.checkpoint(f, prevent_cse=False, **options)


def _projected(one: Any) -> bool:
    return isinstance(one, ProjectedContext)


def _floats(one: Any) -> list[Any]:
    """The arrays that count."""
    arrays = [one.keys, one.values] if _projected(one) else [one]
    floating = lambda a: hasattr(a, "dtype") and jnp.issubdtype(a.dtype, jnp.floating)
    return [array for array in arrays if floating(array)]


def wide_dot(x: Float[Array, "*B M"], table: Float[Array, "_ _"], axis: int) -> Array:
    """The product with every word, in float32 at least; its gradient's are in x's dtype.

    Without a rule of its own the gradient would be a product of float32 with half precision, which
    is one in float32.

    Args:
      x: (..., M).
      table: (V, M), or (M, V) where `axis`, that of the vocabulary, is 1; in x's dtype.
      axis: 0 or 1.

    >>> x = jnp.ones((2, 3), jnp.bfloat16)
    >>> wide_dot(x, jnp.ones((5, 3), jnp.bfloat16), 0).dtype.name
    'float32'
    """
    if precision(x.dtype) == x.dtype:
        if x.size == x.shape[-1]:  # a transposed table takes XLA's CPU 1.34 times as long
            return jax.lax.dot_general(x, table, (((x.ndim - 1,), (1 - axis,)), ((), ())))
        return x @ (table if axis else table.T)
    return _wide_dot(axis, x, table)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _wide_dot(axis, x, table):
    return summed_wide(x, table, ((x.ndim - 1,), (1 - axis,)))


def _wide_dot_backward(axis, residuals, g):
    x, table = residuals
    g = g.astype(x.dtype)
    every = tuple(range(x.ndim - 1))
    dx = summed_wide(g, table, ((x.ndim - 1,), (axis,)))
    pair = (x, g) if axis else (g, x)
    return dx.astype(x.dtype), summed_wide(*pair, (every, every)).astype(table.dtype)


_wide_dot.defvjp(lambda axis, x, table: (_wide_dot(axis, x, table), (x, table)), _wide_dot_backward)


def summed_wide(a: Array, b: Array, contracted: Any, batch: Any = ((), ())) -> Array:
    """A product of one dtype that is added up, and returned, in float32 at least."""
    wide = precision(a.dtype)
    return jax.lax.dot_general(a, b, (contracted, batch), preferred_element_type=wide)
