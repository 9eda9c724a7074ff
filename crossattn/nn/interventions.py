"""Interventions in attention: what it computes is captured, replaced or cut, and all of it is data.

Two collections of variables, at the path of each attention. A call that names neither computes what
it always did, to the bit; under a scan over layers both have a leading axis L.

    _, found = model.apply(params, ..., mutable=["activations"])
    y, _ = model.apply({**params, "interventions": found["activations"]}, ...)

"activations" are read: "map" (B, H, T, S), the weights that read the values; "values" (B, H, S, V);
"output" (B, H, T, V), what each head has read, before the output projection.

"interventions" are written (activation patching: Vig et al. 2020; Meng et al. 2022): entries of the
same three names take the place of what is computed, everywhere or where the booleans "map_where",
"values_where" and "output_where" say. "edges" (B|1, H|1, T|1, S|1) are cut where they are True: the
softmax runs over the others (Geva et al. 2023). "perturbation" is added to the map: the gradient
with respect to one of zeros is that with respect to the map.

Other entries at the path of an attention are refused. Those at a path where no attention is are
not: Flax does not read what no module asks for. The paths are those of "activations".

A map has to be there to be captured or replaced, so such a call computes (B, H, T, S) arrays and
their products in float32 (float64 for float64); edges alone leave the kernel what it is. What a
query may not see it does not read, whatever is patched, and a query that sees nothing reads 0.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from crossattn.ops import AttentionTrace, Mask
from crossattn.ops.reference import HIGHEST
from crossattn.shapes import Array, Bool, Float
from crossattn.spelling import nearest

__all__ = ["ACTIVATIONS", "INTERVENTIONS", "intervened", "without_edges"]

ACTIVATIONS, INTERVENTIONS = "activations", "interventions"


def without_edges(module: nn.Module, mask: Mask) -> Mask:
    """The mask of an attention without the edges that are cut.

    Raises:
      ValueError: edges that are no such booleans, an entry that is none of interventions.
    """
    if module.is_initializing():
        return mask
    _check_entries(module)
    if not module.has_variable(INTERVENTIONS, "edges"):
        return mask
    edges: Any = module.get_variable(INTERVENTIONS, "edges")
    if edges.dtype != bool or edges.ndim != 4:
        raise ValueError(
            f"{_at(module)}/edges: booleans (B|1, H|1, T|1, S|1) are meant, got "
            f"{edges.dtype}{edges.shape}"
        )
    return mask & Mask.dense(~edges)


def intervened(
    module: nn.Module,
    out: Float[Array, "B T H V"],
    trace: AttentionTrace,
    values: Callable[[], Float[Array, "B K S V"]],
    *,
    rest: Callable[[], Float[Array, "B T H V"] | None] = lambda: None,
    mix: Float[Array, "H H"] | None = None,
) -> Float[Array, "B T H V"]:
    """What heads have read, after interventions; `out` itself where there are none.

    Args:
      module: whose variables say what is captured and what is replaced.
      out: what was read.
      trace: of the attention, edges left out.
      values: gives those that were read, heads first; K divides H.
      rest: gives what was read of other keys under the same softmax, None where there are none.
      mix: of the weights of talking heads.

    Raises:
      ValueError: dropout, tokens that lie over devices, shapes that do not fit, or an attention
        that runs twice in one call.
    """
    if module.is_initializing():
        return out
    captures = module.is_mutable_collection(ACTIVATIONS)
    replaces = any(module.has_variable(INTERVENTIONS, name) for name in REPLACED)
    if not (captures or replaces):
        return out
    _check(module, captures)
    maps = trace.weights()
    if mix is not None:
        maps = jnp.einsum("bgts,hg->bhts", maps, mix.astype(maps.dtype), precision=HIGHEST)
    heads = values()
    heads = jnp.repeat(heads, maps.shape[1] // heads.shape[1], axis=1).astype(maps.dtype)
    heads = _replaced(module, "values", heads)
    maps = _replaced(module, "map", maps)
    if module.has_variable(INTERVENTIONS, "perturbation"):
        maps = maps + _given(module, "perturbation", maps.shape)
    if (visible := _visible(trace)) is not None:
        # A hidden value may be NaN, and 0 * NaN is NaN.
        maps = jnp.where(visible, maps, 0)
        heads = jnp.where(visible.any(2)[..., None], heads, 0)
    read = jnp.einsum("bhts,bhsv->bhtv", maps, heads, precision=HIGHEST)
    if (other := rest()) is not None:
        read = read + other.swapaxes(1, 2).astype(read.dtype)
    read = _replaced(module, "output", read)
    if captures:
        for name, value in {"map": maps, "values": heads, "output": read}.items():
            module.put_variable(ACTIVATIONS, name, value)
    return read.swapaxes(1, 2).astype(out.dtype)


PATCHED = ("map", "values", "output")
REPLACED = (*PATCHED, "perturbation")


def _check_entries(module: nn.Module) -> None:
    """Refuse what would be ignored."""
    given = set(module.variables.get(INTERVENTIONS, ()))
    known = [*REPLACED, "edges", *(f"{name}_where" for name in PATCHED)]
    if unknown := sorted(given - {*known}):
        raise ValueError(f"{_at(module)}: {unknown[0]} is no entry: {nearest(unknown[0], known)}")
    for name in PATCHED:
        if f"{name}_where" in given and name not in given:
            raise ValueError(f"{_at(module)}/{name}_where: give {name} as well, what to put there")


def _replaced(module: nn.Module, name: str, computed: Array) -> Array:
    """What is given in place of what is computed, where it is to be."""
    if not module.has_variable(INTERVENTIONS, name):
        return computed
    given = _given(module, name, computed.shape).astype(computed.dtype)
    if not module.has_variable(INTERVENTIONS, f"{name}_where"):
        return jnp.broadcast_to(given, computed.shape)
    return jnp.where(_given(module, f"{name}_where", computed.shape, bool), given, computed)


def _given(module: nn.Module, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
    value: Any = module.get_variable(INTERVENTIONS, name)
    fits = value.ndim == len(shape) and all(
        size in (1, wanted) for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits or (dtype is not None and value.dtype != dtype):
        kind = "" if dtype is None else "booleans "
        raise ValueError(
            f"{_at(module)}/{name}: {kind}{shape} are meant, or 1 for an axis, got "
            f"{value.dtype}{value.shape}"
        )
    return value


def _visible(trace: AttentionTrace) -> Bool[Array, "#B #H #T #S"] | None:
    """Which query sees which key; None where all see all."""
    if not trace.mask.terms and trace.bias is None:
        return None
    visible = trace.mask.visible(trace.q.shape[0], trace.q.shape[1], trace.k.shape[1])
    return visible if trace.bias is None else visible & (trace.bias != -jnp.inf)


def _check(module: Any, captures: bool) -> None:
    if module.dropout and module.has_rng("dropout"):
        raise ValueError(f"{_at(module)}: no interventions under dropout: leave the rngs out")
    if module.layout is not None:
        raise ValueError(f"{_at(module)}: no interventions over devices: leave layout out")
    if captures and module.has_variable(ACTIVATIONS, "map"):
        raise ValueError(
            f"{_at(module)}: activations are there already: pass none in, and none can be captured "
            "of an attention that runs twice in one call, as in decode_step"
        )


def _at(module: nn.Module) -> str:
    return "/".join((INTERVENTIONS, *module.path))
