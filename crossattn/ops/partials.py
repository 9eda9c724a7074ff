"""Join results over disjoint keys by their lse.

Softmax over the union of disjoint sets of keys is the lse-weighted mean of the partial results
(Milakov & Gimelshein 2018): of parts of a context, on one device or many, and of further keys that
have a logit and no value, sinks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from crossattn.ops.checks import as_array
from crossattn.shapes import Array, Float

__all__ = ["add_sinks", "merge_partials"]


def merge_partials(
    o: Float[Array, "P B T H V"], lse: Float[Array, "P B H T"]
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """Attention over all keys from P partial results over disjoint keys: (o, lse).

    Empty parts (lse -inf) count for nothing, and where every part is empty so is the result.
    Differentiable in both.

    >>> from crossattn import attend
    >>> q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 6, 2, 4))
    >>> o, trace = zip(*(attend(q, k[:, part], v[:, part]) for part in (slice(4), slice(4, 6))))
    >>> together, lse = merge_partials(jnp.stack(o), jnp.stack([t.lse for t in trace]))
    >>> bool(jnp.allclose(together, attend(q, k, v)[0], atol=1e-6))
    True

    Raises:
      TypeError, ValueError: o or lse is no array, or they are not of the same parts.
    """
    o, lse = as_array("o", o), as_array("lse", lse)
    if (
        o is None
        or lse is None
        or o.ndim != 5
        or lse.shape != (*o.shape[:2], o.shape[3], o.shape[2])
    ):
        shapes = [None if x is None else list(x.shape) for x in (o, lse)]
        raise ValueError(
            f"merge_partials takes o (P, B, T, H, V) and lse (P, B, H, T), got {shapes}"
        )
    top = jax.lax.stop_gradient(lse.max(0))
    some = top != -jnp.inf
    weight = jnp.where(lse == -jnp.inf, 0, jnp.exp(lse - jnp.where(some, top, 0)[None]))
    total = jnp.where(some, weight.sum(0), 1)
    share = (weight / total[None]).swapaxes(2, 3)[..., None]
    joined = jnp.sum(jnp.where(share == 0, 0, o.astype(lse.dtype) * share), 0)
    return joined.astype(o.dtype), jnp.where(some, top + jnp.log(total), -jnp.inf)


def add_sinks(
    out: Float[Array, "B T H V"], lse: Float[Array, "B H T"], sinks: Float[Array, "#B #H #T"]
) -> tuple[Float[Array, "B T H V"], Float[Array, "B H T"]]:
    """One more key, whose logit is the sink and whose value is 0, joined to (out, lse).

    As `merge_partials` with (0, sink), without that array of zeros. No infinity meets another,
    neither here nor in gradients; a sink of -inf changes nothing.
    """
    valid = lse != -jnp.inf
    keys = jnp.where(valid, lse, 0)
    sinks = jnp.where(sinks == -jnp.inf, -jnp.inf, jnp.broadcast_to(sinks, lse.shape))
    total = jnp.where(valid, jnp.logaddexp(keys, sinks), sinks)
    share = jnp.where(valid, jnp.exp(keys - jnp.where(valid, total, 0)), 0)
    rows = lambda x: x.swapaxes(1, 2)[..., None]
    joined = jnp.where(rows(valid), out.astype(share.dtype) * rows(share), 0)
    return joined.astype(out.dtype), total
