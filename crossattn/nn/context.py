"""Contexts before attention: what is projected, what is hidden from everyone, what rows share."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from crossattn.ops import Mask
from crossattn.ops.checks import as_array
from crossattn.ops.masks.hidden import zero_hidden
from crossattn.ops.masks.terms import Keys, Lengths
from crossattn.shapes import Array, Float

__all__ = [
    "ContextOrPair",
    "MaskOrPair",
    "ProjectedContext",
    "ProjectedOrPair",
    "check_shared",
    "combine_masks",
    "of_keys",
    "spread",
    "tokens",
    "words",
    "zero_masked",
]


@struct.dataclass
class ProjectedContext:
    """Keys and values of a context, projected once and read many times.

    Attributes:
      keys: (B, K, S, D), heads first: a step with few queries reads them without a transpose.
      values: (B, K, S, D).
      mask: what of the context may be seen, or None.
    """

    keys: Any
    values: Any
    mask: Any = None


# Of a `GatedStack`, whose layers read two contexts, each is a pair.
ContextOrPair = Float[Array, "I S N"] | ProjectedContext | tuple[Any, Any]
ProjectedOrPair = ProjectedContext | tuple[Any, Any]
MaskOrPair = Mask | tuple[Mask | None, Mask | None] | None


def zero_masked(
    context: Float[Array, "B S N"], mask: Mask | None, T: int | None
) -> Float[Array, "B S N"]:
    """The context with zeros for tokens that none of T queries sees (T None: whatever they are).

    Why, see `zero_hidden`.

    Raises:
      TypeError: the mask is none.
    """
    context = tokens("context", context)
    if mask is not None and not isinstance(mask, Mask):
        raise TypeError(f"mask is a crossattn.Mask, got {type(mask).__name__}: Mask.dense(array)?")
    mask = of_keys(mask) if T is None else mask
    return context if mask is None else zero_hidden(context, mask, 1 if T is None else T)


def tokens(name: str, x: Any, width: int | None = None) -> Array:
    """An array (B, T, M), of one of numpy too.

    Raises:
      TypeError: a list, or numbers of words: what is missing is named.
      ValueError: other axes, or another width; the message says how to reshape.

    >>> tokens("context", jnp.ones((2, 7, 7, 6)))
    Traceback (most recent call last):
    ValueError: context has shape (2, 7, 7, 6), wanted (B, S, N): write context.reshape(2, 49, 6)
    """
    wanted = "(B, S, N)" if name == "context" else "(B, T, M)"
    if x is None:
        raise TypeError(f"{name} is required: an array {wanted}")
    x = as_array(name, x)
    if x.ndim != 3:
        how = {1: f"{name}[None, None]", 2: f"{name}[None] for one example"}.get(x.ndim)
        if x.ndim > 3:
            B, *inner, N = x.shape
            how = f"{name}.reshape({B}, {math.prod(inner)}, {N})"
        more = f": write {how}" if how else ""
        raise ValueError(f"{name} has shape {x.shape}, wanted {wanted}{more}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{name} has floats, got {x.dtype}: embed words, or x.astype(jnp.float32)")
    if width is not None and x.shape[2] != width:
        raise ValueError(f"{name} has width {x.shape[2]}, this module has width {width}")
    return x


def words(tokens: Any) -> Array:
    """Numbers of words, integers (B, T), of numpy too.

    Raises:
      TypeError, ValueError: they are not.

    >>> words(jnp.array([3, 1]))
    Traceback (most recent call last):
    ValueError: tokens have shape (2,), wanted (B, T): write tokens[None] for one example
    """
    tokens = as_array("tokens", tokens)
    if tokens.ndim != 2:
        more = ": write tokens[None] for one example" if tokens.ndim == 1 else ""
        raise ValueError(f"tokens have shape {tokens.shape}, wanted (B, T){more}")
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"tokens are integers, got {tokens.dtype}: write tokens.astype(jnp.int32)")
    return tokens


def of_keys(mask: Mask | None) -> Mask | None:
    """What hides keys from every query alike."""
    if mask is None:
        return None
    return Mask(tuple(term for term in mask.terms if _of_keys(term)))


def _of_keys(term: Any) -> bool:
    return isinstance(term, Keys) or (isinstance(term, Lengths) and term.query is None)


def check_shared(rows: Any, contexts: Any) -> None:
    """Refuse rows of x of which some would read two contexts.

    >>> check_shared(3, 2)
    Traceback (most recent call last):
    ValueError: 3 rows of x cannot share 2 contexts: B is a multiple of I
    """
    if rows % max(contexts, 1):
        raise ValueError(f"{rows} rows of x cannot share {contexts} contexts: B is a multiple of I")


def spread(
    context: ProjectedContext, mask: Mask | None, B: int
) -> tuple[ProjectedContext, Mask | None]:
    """Each of I contexts for the B / I neighbouring rows that read it, which must stay apart.

    Raises:
      ValueError: a mask that says more than which keys there are: it is for I contexts.
    """
    if (n := B // context.keys.shape[0]) == 1:
        return context, mask
    for each in (mask, context.mask):
        if each is not None and not all(map(_of_keys, each.terms)):
            raise ValueError(
                "rows that share a context and have keys of their own take masks of keys"
            )
    repeated = lambda x: jnp.repeat(x, n, 0) if jnp.ndim(x) and x.shape[0] * n == B else x
    context, mask = jax.tree.map(repeated, (context, mask))
    return context, mask


def combine_masks(*masks: Mask | None) -> Mask:
    """Visible where all masks show it; None hides nothing."""
    joined = Mask()
    for mask in masks:
        joined = joined if mask is None else joined & mask
    return joined
