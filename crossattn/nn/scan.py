"""One layer run many times under `scan`: compile time does not grow with depth."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from crossattn.nn.choices import known
from crossattn.nn.interventions import ACTIVATIONS, INTERVENTIONS
from crossattn.ops import Mask
from crossattn.ops.api import RESIDUALS

__all__ = ["Remat", "decode_layers", "policy_of", "recomputed", "scan_ends", "scan_layers"]

Remat = Literal["everything", "all but attention", "all but products"] | None

POLICIES = {
    "everything": jax.checkpoint_policies.nothing_saveable,
    "all but attention": jax.checkpoint_policies.save_only_these_names(*RESIDUALS),
    "all but products": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def policy_of(remat: str | None) -> Callable[..., bool] | None:
    """What may be kept for the backward pass; None where nothing is computed again.

    "all but attention" keeps what a backward pass of attention needs beside queries, keys and
    values, so that the kernel does not run again: one array as large as the queries for each
    attention, and a number for each query and head.

    Raises:
      ValueError: there is no such policy.

    >>> policy_of(None) is None, callable(policy_of("all but attention"))
    (True, True)
    """
    known("remat", remat, (*POLICIES, None))
    return None if remat is None else POLICIES[remat]


def scan_layers(
    step: Callable[..., tuple[Any, Any]],
    block: nn.Module,
    carry: Any,
    shared: tuple[Any, ...],
    own: tuple[Any, ...] = (),
    *,
    layers: int,
    remat: Remat = None,
) -> tuple[Any, Any]:
    """Run `step(block, carry, *shared, *own)` for each layer: one compilation for any depth.

    Two layers make one turn of the loop, which saves a fifth of a shallow stack's training step on
    a CPU: less is copied in and out of the loop.

    Args:
      step: returns the new carry and what is kept of the layer.
      block: the module of a layer; its parameters get a leading axis L.
      carry: the stream, or the streams.
      shared: pytrees that every layer reads.
      own: pytrees whose leading axis L has one entry for each layer.
      layers: L.
      remat: what the backward pass computes again instead of keeping it; None: nothing.

    Returns:
      The last carry, and what was kept with a leading axis L.
    """
    arrays, whole = _arrays_of(shared)
    run = recomputed(step, remat)
    scanned = nn.scan(
        lambda block, carry, arrays, *own: run(block, carry, *whole(arrays), *own),
        variable_axes={"params": 0, ACTIVATIONS: 0, INTERVENTIONS: 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(nn.broadcast, *[0] * len(own)),
        length=layers,
        unroll=2,
    )
    return scanned(block, carry, arrays, *own)


def decode_layers(
    step: Callable[..., tuple[Any, Any, Any]],
    block: nn.Module,
    carry: Any,
    shared: tuple[Any, ...],
    context: Any,
    caches: Sequence[Any],
) -> tuple[Any, tuple[Any, ...], Any]:
    """Run `step(block, carry, *shared, context, cache)` layer by layer, without a loop.

    Within a loop over words a scan over layers copies the weights, the context and the cache of a
    layer out of their stacks for every word. Here they are cut out where they stand in the program,
    which `generate` does once before its loop, and each cache is an array of its own, which is
    written in place.

    Args:
      step: returns the new carry, the new cache and what is kept of the layer.
      block: the module of a layer; its parameters have a leading axis L.
      carry: the stream.
      shared: pytrees that every layer reads.
      context: a pytree whose leading axis L has one entry for each layer.
      caches: one pytree for each layer.

    Returns:
      The last carry, the caches, and what was kept with a leading axis L.
    """
    after, kept = [], []
    for layer, cache in enumerate(caches):
        entry = partial(jax.tree.map, partial(jax.lax.index_in_dim, index=layer, keepdims=False))
        one = nn.map_variables(step, "params", entry)
        carry, cache, some = one(block, carry, *shared, entry(context), cache)
        after.append(cache)
        kept.append(some)
    return carry, tuple(after), jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept)


def recomputed(step: Callable[..., Any], remat: Remat) -> Callable[..., Any]:
    """`step(module, ...)`, of which the backward pass computes again what `remat` says."""
    if remat is None:
        return step

    def run(module: nn.Module, *given: Any) -> Any:
        arrays, whole = _arrays_of(given)
        again = lambda module, arrays: step(module, *whole(arrays))
        return nn.remat(again, policy=policy_of(remat), prevent_cse=False)(module, arrays)

    return run


def _arrays_of(given: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The arrays of a pytree, and what makes the pytree of them again.

    Numbers of masks, such as the offset of a causal one, are no arrays: they stay what they are. As
    arguments of a loop they would become arrays, which fused kernels do not take.
    """
    is_mask = lambda part: isinstance(part, Mask)
    leaves, tree = jax.tree.flatten(given)
    parts = jax.tree.leaves(given, is_leaf=is_mask)
    fixed = [is_mask(one) and isinstance(x, int) for one in parts for x in jax.tree.leaves(one)]

    def whole(arrays: list[Any]) -> Any:
        rest = iter(arrays)
        found = [x if kept else next(rest) for x, kept in zip(leaves, fixed, strict=True)]
        return jax.tree.unflatten(tree, found)

    return [x for x, kept in zip(leaves, fixed, strict=True) if not kept], whole


def scan_ends(
    step: Callable[..., tuple[Any, Any]],
    make: Callable[..., nn.Module],
    carry: Any,
    shared: tuple[Any, ...],
    own: tuple[Any, ...],
    *,
    layers: int,
    remat: Remat = None,
    name: str = "stack",
) -> tuple[Any, Any]:
    """As `scan_layers`, but the first layer and the last one stand outside of the loop.

    The first may be given a carry of another shape; the last is told that it is, by `last=True`:
    what nobody reads behind it, it need not compute, and has no parameters for.

    Args:
      make: the module of a layer, `make(name=...)`: `name` of those in the loop, with "_first" and
        "_last" behind it for the others. A single layer is the last.
    """
    entry = lambda i: jax.tree.map(lambda leaf: leaf[i], own)
    kept, first, last = [], min(1, layers - 1), layers - 1
    if first:
        carry, one = recomputed(step, remat)(make(name=f"{name}_first"), carry, *shared, *entry(0))
        kept.append(jax.tree.map(lambda leaf: leaf[None], one))
    if last > first:
        inner = jax.tree.map(lambda leaf: leaf[first:last], own)
        depth: dict[str, Any] = {"layers": last - first, "remat": remat}
        carry, several = scan_layers(step, make(name=name), carry, shared, inner, **depth)
        kept.append(several)
    final = recomputed(partial(step, last=True), remat)
    carry, one = final(make(name=f"{name}_last"), carry, *shared, *entry(last))
    kept.append(jax.tree.map(lambda leaf: leaf[None], one))
    return carry, jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *kept)
