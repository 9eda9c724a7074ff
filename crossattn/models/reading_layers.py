"""Where words read the image: which attention of a model is that of each layer that reads."""

from typing import Any, NamedTuple

import jax.numpy as jnp

from crossattn.models.config import VisionLanguageConfig
from crossattn.nn import presets
from crossattn.nn.config import TwoStreamConfig
from crossattn.shapes import Array, Float

__all__ = ["Reading", "gathered", "readings", "scattered"]


class Reading(NamedTuple):
    """One attention module.

    Attributes:
      path: names of the modules down to it.
      layers: how many reading layers it is, under a scan with a leading axis; None: one, without.
    """

    path: tuple[str, ...]
    layers: int | None = None


def readings(config: VisionLanguageConfig) -> tuple[Reading, ...]:
    """The attentions in which words read the context, the first layer first.

    Behind a connector they read latents, in a bottleneck themselves and the shared tokens.

    >>> readings(VisionLanguageConfig(preset="flamingo"))
    (Reading(path=('stack', 'groups', 'reading', 'cross_attention'), layers=2),)
    """
    L, use = config.layers, config.use
    if use == "adapter":
        return tuple(Reading((f"stack{n}_cross",)) for n in range(L))
    if use == "bottleneck":
        return tuple(Reading((f"stack{n}", "x", "self_attention")) for n in range(1, L))
    if use in ("prefix", "two_stream"):
        where = _of_streams(config)
        first = [Reading(("stack_first", *where))] * min(1, L - 1)
        inner = [Reading(("stack", *where), L - 2)] * (L > 2)
        return (*first, *inner, Reading(("stack_last", *where)))
    if use == "interleaved":
        inside: tuple[str, ...] = ("groups", "reading")
    elif presets.get(config.preset).family == "coca":
        inside = ("joint", "blocks")
    else:
        inside = ("blocks",) if config.cross_every == 1 else ("reading",)
    return (Reading(("stack", *inside, "cross_attention"), config.reading_layers),)


def _of_streams(config: VisionLanguageConfig) -> tuple[str, ...]:
    if config.use == "prefix":
        return ("self_attention",)
    block: Any = config.block
    assert isinstance(block, TwoStreamConfig)
    return ("exchange",) if block.exchange == "one-product" else ("x", "cross_attention")


def gathered(tree: Any, where: tuple[Reading, ...], name: str) -> Float[Array, "L ..."]:
    """One kind of activation of all layers that read, of a tree as modules capture it."""
    parts = []
    for reading in where:
        node = tree
        for step in (*reading.path, name):
            node = node[step]
        parts.append(node[None] if reading.layers is None else node)
    return jnp.concatenate(parts)


def scattered(
    arrays: dict[str, Array], where: tuple[Reading, ...], tree: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Arrays (L|1, ...) by name as the tree of the modules that they are for.

    Args:
      arrays: by name.
      where: the modules.
      tree: what is there for other modules; the arrays are put into it.

    Raises:
      ValueError: an array of another number of layers.
    """
    tree = {} if tree is None else tree
    layers = sum(reading.layers or 1 for reading in where)
    for name, x in arrays.items():
        if x.shape[0] not in (1, layers):
            raise ValueError(f"{name} {x.shape}: {layers} layers read, or 1 for all of them")
    full = {name: jnp.broadcast_to(x, (layers, *x.shape[1:])) for name, x in arrays.items()}
    begin = 0
    for reading in where:
        end = begin + (reading.layers or 1)
        cut = begin if reading.layers is None else slice(begin, end)
        node = tree
        for step in reading.path:
            node = node.setdefault(step, {})
        node.update({name: x[cut] for name, x in full.items()})
        begin = end
    return tree
