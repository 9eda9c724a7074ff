"""Attention whose queries and keys lie over the devices of a mesh axis."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from crossattn.ops.api import RefusalError, attend
from crossattn.ops.checks import (
    as_array,
    as_mask,
    check_arrays,
    checked_dropout,
    checked_scale,
    checked_sinks,
)
from crossattn.ops.dropout import Dropout
from crossattn.ops.masks.mask import Mask
from crossattn.ops.partials import add_sinks, merge_partials
from crossattn.shapes import Array, Bool, Float
from crossattn.sharding.context_parallel import ContextParallel, Side, local, padded
from crossattn.sharding.exchange import gather_tokens, parts, swapped
from crossattn.sharding.strategies import (
    STRATEGIES,
    ExchangeSizes,
    choose_strategy,
    exchanges,
    strategy_table,
)
from crossattn.sharding.trace import ShardedTrace

__all__ = ["attend_sharded", "explain_sharded"]

# Of `attend`, beside mask and bias.
OPTIONS = ("scale", "softcap", "sinks", "dropout", "implementation", "heads_first")


def attend_sharded(
    q: Float[Array, "B T H D"],
    k: Float[Array, "B S K D"],
    v: Float[Array, "B S K V"],
    *,
    layout: ContextParallel,
    strategy: str | None = None,
    mask: Mask | Bool[Array | np.ndarray, "#B #H #T #S"] | None = None,
    bias: Float[Array, "#B #H #T #S"] | None = None,
    **options: Any,
) -> tuple[Float[Array, "B T H V"], ShardedTrace]:
    """`attend` with queries along T and keys along S over the devices of a mesh axis.

    Exact: outputs, lse and all gradients are those of one device, under every kind of mask, and the
    weights that a key drops are the same. T and S need not be multiples of the number of devices.

    Args:
      q, k, v: as `attend` takes them; global arrays, which are laid out as `layout` says.
      layout: the mesh, the axis of the tokens, and those of examples and heads.
      strategy: a name of `STRATEGIES`; None takes the one that moves least, as `explain_sharded`
        says.
      mask, bias: as `attend` takes them, with the positions of the whole call.
      options: `scale`, `softcap`, `sinks`, `dropout`, `heads_first` and `implementation` (of each
        device's part) of `attend`.
        Over one device the call is that of `attend`.

    Returns:
      out (B, T, H, V), along T over the axis, and a `ShardedTrace`, an `AttentionTrace` whose
      statistics lie as the output does and are made without moving keys.

    Raises:
      RefusalError: the strategy cannot take the call, with the reason.
      ValueError, TypeError: as `attend`; or an option that it has not.

    >>> from jax.sharding import AxisType
    >>> mesh = jax.make_mesh((2, 4), ("data", "context"), axis_types=(AxisType.Auto,) * 2)
    >>> q, k = jnp.ones((2, 5, 3, 8)), jnp.ones((2, 16, 3, 8))
    >>> out, trace = attend_sharded(q, k, k, layout=ContextParallel(mesh))
    >>> out.shape, trace.lse.shape
    ((2, 5, 3, 8), (2, 3, 5))
    """
    mask, sinks = as_mask(mask), options.get("sinks")
    given = {"q": q, "k": k, "v": v, "bias": bias}
    q, k, v, bias = (as_array(name, x) for name, x in given.items())
    check_arrays(q, k, v, bias)
    (B, T, H, D), S = q.shape, k.shape[1]
    mask.check(B, H, T, S)
    dropout = Dropout.of(checked_dropout(options.get("dropout")), B, H)
    options = _checked_options(options, D)
    leaves, tree = jax.tree.flatten(mask)
    # An offset that is a Python integer stays one: fused kernels need to know it.
    known = tuple(x if isinstance(x, int) else None for x in leaves)
    arrays = [x for x, n in zip(leaves, known, strict=True) if n is None]
    name = _checked(strategy, _sizes(q, k, v, layout))
    static = _Static(layout, name, tree, known, tuple(sorted(options.items())))
    out, lse = _run(static, q, k, v, arrays, bias, dropout)
    trace = partial(ShardedTrace, q, k, mask, bias, scale=options["scale"], layout=layout)
    softcap = options["softcap"]
    if sinks is None:
        return out, trace(lse=lse, softcap=softcap)
    out, all_lse = add_sinks(out, lse, checked_sinks(sinks, H, lse)[None, :, None])
    return out, trace(lse=all_lse, softcap=softcap, key_lse=lse)


def explain_sharded(q: Any, k: Any, v: Any, *, layout: ContextParallel) -> str:
    """What `attend_sharded` takes for this call, and what every strategy would move.

    Arrays or their shapes (`jax.ShapeDtypeStruct`); nothing is computed.

    >>> from jax.sharding import AxisType
    >>> mesh = jax.make_mesh((8,), ("context",), axis_types=(AxisType.Auto,))
    >>> q, k = (jax.ShapeDtypeStruct((1, n, 8, 64), "bfloat16") for n in (64, 8192))
    >>> print(explain_sharded(q, k, k, layout=ContextParallel(mesh)).splitlines()[1])
    gather-q        0.111      0.111  chosen
    """
    return strategy_table(_sizes(q, k, v, layout))


def _checked_options(options: dict[str, Any], D: int) -> dict[str, Any]:
    """Those of each device's part, as Python values."""
    for name in options:
        if name not in OPTIONS:
            known = ", ".join(map(repr, OPTIONS))
            raise TypeError(f"attend_sharded has no option {name!r}: write one of {known}")
    scale, softcap = checked_scale(options.get("scale"), options.get("softcap"), D)
    return {
        "scale": scale,
        "softcap": softcap,
        "implementation": options.get("implementation"),
        "heads_first": options.get("heads_first", False),
    }


class _Static(NamedTuple):
    """The part of a call that is compiled in."""

    layout: ContextParallel
    strategy: str
    tree: Any  # of the mask
    known: tuple[int | None, ...]  # its leaves that are Python integers
    options: tuple[tuple[str, Any], ...]  # of `attend`

    def mask(self, arrays: list[Array]) -> Mask:
        rest = iter(arrays)
        return jax.tree.unflatten(self.tree, [next(rest) if n is None else n for n in self.known])


def _sizes(q: Any, k: Any, v: Any, layout: ContextParallel) -> ExchangeSizes:
    (B, T, H, D), (_, S, K, V) = q.shape, v.shape
    batch, heads = layout.over(layout.batch), layout.over(layout.heads)
    for letter, n, by in (("B", B, batch), ("H", H, heads), ("K", K, heads)):
        if n % by:
            raise ValueError(f"{letter}={n} does not divide over {by} devices of the mesh")
    n, element = layout.n, jnp.dtype(q.dtype).itemsize
    return ExchangeSizes(B // batch, T, S, H // heads, K // heads, D, V, n, element)


def _checked(strategy: str | None, sizes: ExchangeSizes) -> str:
    if strategy is None:
        return choose_strategy(sizes).strategy
    found = {x.strategy: x for x in exchanges(sizes)}.get(strategy)
    if found is None:
        known = ", ".join(map(repr, STRATEGIES))
        raise ValueError(f"unknown strategy {strategy!r}: write one of {known}, or None to choose")
    if found.refused is not None:
        raise RefusalError(f"{strategy} cannot take this call: {found.refused}")
    return strategy


# jit: a call outside of one cannot leave axes of the mesh to the compiler; inlined within one.
@partial(jax.jit, static_argnums=0, inline=True)
def _run(static: _Static, q, k, v, arrays, bias, dropout) -> tuple[Array, Array]:
    layout, T = static.layout, q.shape[1]
    mask = static.mask(arrays)
    q, k, v, mask, bias = padded(layout, q, k, v, mask, bias)
    body, along = _BODIES[static.strategy]
    leaves, tree = jax.tree.flatten(mask)
    known = [isinstance(x, int) for x in leaves]

    def run(index, q, k, v, arrays, *rest_of_call):
        rest = iter(arrays)
        leaves_here = [x if fixed else next(rest) for x, fixed in zip(leaves, known, strict=True)]
        mask = jax.tree.unflatten(tree, leaves_here)
        return body(static, index, q, k, v, mask, *rest_of_call)

    of_bias, bias = layout.of_bias(bias, along)
    specs = (
        layout.spec("B T H D", q.shape),
        layout.spec("B S K D", k.shape),
        layout.spec("B S K V", v.shape),
        [s for s, fixed in zip(layout.of_mask(mask, along), known, strict=True) if not fixed],
        of_bias,
        _of_dropout(layout, dropout, along),
    )
    arrays = [x for x, fixed in zip(leaves, known, strict=True) if not fixed]
    given = q, k, v, arrays, bias, dropout
    out = layout.spec("B T H V", q.shape), layout.spec("B H T", q.shape[:3])
    o, lse = layout.map(run, given, specs, out)
    return o[:, :T], lse[:, :, :T]


def _of_dropout(layout: ContextParallel, dropout: Dropout | None, along: str) -> Any:
    """Where it lies: each device has the keys of its own examples and heads."""
    if dropout is None:
        return None
    keys = layout.spec("B H words", dropout.keys.shape, along)
    return dataclasses.replace(dropout, keys=keys, first=PartitionSpec())


def _gather_queries(static: _Static, index, q, k, v, mask, bias, dropout):
    """All queries meet this device's keys; the results go home and are joined there."""
    layout = static.layout
    B, S = k.shape[:2]
    q = gather_tokens(q, layout.axis, 1)
    mask = local(mask, B, Side.whole(q.shape[1]), Side.part(S, layout.n, index))
    if dropout is not None:
        dropout = dropout.moved(0, index * jnp.int32(S))
    o, trace = attend(q, k, v, mask=mask, bias=bias, dropout=dropout, **dict(static.options))
    return merge_partials(parts(o, layout.axis, 1), parts(trace.lse, layout.axis, 2))


def _gather_context(static: _Static, index, q, k, v, mask, bias, dropout):
    """This device's queries meet all keys."""
    layout = static.layout
    B, T = q.shape[:2]
    k, v = (gather_tokens(x, layout.axis, 1) for x in (k, v))
    mask = local(mask, B, Side.part(T, layout.n, index), Side.whole(k.shape[1]))
    if dropout is not None:
        dropout = dropout.moved(index * jnp.int32(T), 0)
    o, trace = attend(q, k, v, mask=mask, bias=bias, dropout=dropout, **dict(static.options))
    return o, trace.lse


def _swap_heads(static: _Static, index, q, k, v, mask, bias, dropout):
    """All queries meet all keys, in this device's share of the heads."""
    axis = static.layout.axis
    q, k, v = (swapped(x, axis, 2, 1) for x in (q, k, v))
    o, trace = attend(q, k, v, mask=mask, bias=bias, dropout=dropout, **dict(static.options))
    return swapped(o, axis, 1, 2), swapped(trace.lse, axis, 2, 1)


# And which axes of mask and bias are cut for the devices: those that the body does not make whole.
_BODIES = {
    "gather-q": (_gather_queries, "S"),
    "ulysses": (_swap_heads, "H"),
    "gather-kv": (_gather_context, "T"),
}
